"""Read a YAML file whose top level is a mapping; an error names the line and what to write there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from hrnet.cli import UserError

# Full-width punctuation of input methods for Chinese, and what YAML expects; in quotes and comments it is allowed
WIDE = dict(zip("：，［］｛｝＃＂＇“”‘’　", ":,[]{}#\"'\"\"'' "))
TEXT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|(?:^|\s)#.*""")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version is faster; some builds of PyYAML lack it
BROKEN = "check indentation, brackets and quotes in this line and the line before"
NO_COLON = "write a space after the colon, as in NAME: value"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError for anything else."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=path, hint="save it as UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        if wide := next((letter for letter in TEXT.sub("", line) if letter in WIDE), None):
            hint = f"write {WIDE[wide]!r}; put text that contains {wide} in quotes"
            raise UserError(f"line {number}: full-width punctuation", where=path, found=repr(wide), hint=hint)
    try:
        values = yaml.load(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, path) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise UserError(f"not YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(values, dict):
        found = "an empty file" if values is None else type(values).__name__
        raise UserError("not a config", where=path, expected="YAML, lines KEY: value", found=found, hint=NO_COLON)
    return values


def _syntax_error(error: yaml.MarkedYAMLError, text: str, path: Path) -> UserError:
    missing_colon = "could not find expected ':'" in str(error.problem)
    at_start = missing_colon or "end of stream" in str(error.problem)  # the mistake is where the key or bracket begins
    mark = (error.context_mark if at_start else None) or error.problem_mark
    at = mark.line if mark else 0
    line = text.splitlines()[at] if at < len(text.splitlines()) else ""
    indented_by_tab = line.startswith("\t") or line.lstrip(" ").startswith("\t")
    hint = "indent with spaces, not with tabs" if indented_by_tab else NO_COLON if missing_colon else BROKEN
    what = "a tab" if indented_by_tab else " ".join(str(error.problem or error.context).split())
    return UserError(f"not YAML: line {at + 1}: {what}", where=path, found=repr(line.strip()[:60]), hint=hint)
