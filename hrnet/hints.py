"""Hints in error messages: commands of make that can be pasted, and the name that was probably meant. Uses only the
standard library, since make/options.py imports it before packages are installed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional

import hrnet

MAKE = re.compile(r"\bmake ([a-z][a-z-]*)(?= |[^\w-]|$)")
REMOVE = re.compile(r"\brm (-r )?([^\s;]+)(; make [^;()]*[^;() ])?")
WITHOUT_MODEL = {"setup", "demo", "test", "check", "help"}  # targets that are not for one model
PIP = f"{sys.executable} -m pip"  # of the interpreter that runs this script
DEFAULTS = {"MODEL": "hrnet_w18", "BUILD": "build", "PYTHON": ".venv/bin/python"}  # of the Makefile; not remembered


def in_call(hint: str, values: Mapping[str, str]) -> str:
    """`hint` with MODEL, BUILD and PYTHON of the current call of make in each command `make <target>`, unless they have
    their defaults. `values`: make's variables; for a stage the environment, where make puts the given ones."""
    targets = os.environ.get("BUNDLE_TARGETS", "").split()
    if targets and (elsewhere := [name for name in MAKE.findall(hint) if name not in targets]):
        return f"this board has no make {elsewhere[0]}; on the machine that packed the bundle: {hint}"
    model = values.get("MODEL") or Path(values.get("CFG", "")).stem
    call = {**{name: values.get(name, "") for name in DEFAULTS}, "MODEL": model}
    if "MAKELEVEL" in values:
        hint = keep_others(hint, Path(call["BUILD"] or DEFAULTS["BUILD"], model or DEFAULTS["MODEL"]))

    def complete(command: re.Match[str]) -> str:
        rest = hint[command.end() :]
        if command[1] in WITHOUT_MODEL:
            return command[0]
        given = {name for name in DEFAULTS if f" {name}=" in rest} | ({"MODEL"} if " CFG=" in rest else set())
        others = {name: value for name, value in call.items() if name not in given}
        words = [f"{name}={value}" for name, value in others.items() if value not in ("", DEFAULTS[name])]
        return " ".join([command[0], *words])

    return MAKE.sub(complete, hint)


def keep_others(hint: str, folder: Path) -> str:
    """`hint` without commands that remove a file which is not in `folder`: the user's, or another model's."""

    def checked(command: re.Match[str]) -> str:
        inside = os.path.abspath(command[2]).startswith(os.path.abspath(folder) + os.sep)
        kind = "directory" if command[1] else "file"
        return command[0] if inside else f"give another {kind}, since {command[2]} is not in {folder}"

    return REMOVE.sub(checked, hint)


def install(package: str, extra: str = "", python: str = sys.executable) -> str:
    """How to install a package, which pyproject.toml lists in the extra `extra`, for an interpreter."""
    if hrnet.BOARD:
        return f"{python} -m pip install -c constraints.txt {package}"
    chosen = f"[{extra}]" if extra else ""
    return f'{python} -m pip install ".{chosen}", or make setup'


def distance(one: str, other: str) -> int:
    """The number of edits (insert, remove or replace a letter, exchange two neighbours) between two texts: optimal
    string alignment, https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row, last = [i], rows[-1]
        for j, b in enumerate(other, 1):
            best = min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


LETTERS_PER_EDIT = 4  # a name of 4 to 7 letters may have one edit, of 8 to 11 letters two


def nearest(name: str, known: Iterable[str]) -> Optional[str]:
    """The known name that is most similar to `name`; None if none is similar. A name is similar if

    - it differs by at most one edit for each LETTERS_PER_EDIT letters of `name`, or
    - `name` has three letters, and the known name has one letter more, one less, or two of them exchanged, or
    - it contains all words of `name`, as `hrnet_w48` contains `w48`.

    Upper and lower case are equal, and so are `-`, `.`, space and `_`. A last word that both have is not compared."""
    asked = _plain(name)
    near: list[tuple[int, int, str]] = []
    for each in known:
        one, other = _without_ending(asked, _plain(each))
        has_words = len(one) > 2 and f"_{one}_" in f"_{other}_"
        edits = min(1, distance(one, other)) if has_words else distance(one, other)
        short = len(one) == 3 and edits == 1 and (len(one) != len(other) or sorted(one) == sorted(other))
        if has_words or short or edits <= len(one) // LETTERS_PER_EDIT:
            near.append((edits, len(each), each))
    return min(near)[2] if near else None


def _plain(name: str) -> str:
    return re.sub("[-. ]", "_", name.lower())


def _without_ending(one: str, other: str) -> tuple[str, str]:
    """The names without their last word, such as `onnx`, if it is the same and not all of a name."""
    first, _, ending = one.rpartition("_")
    second, _, same = other.rpartition("_")
    return (first, second) if first and second and ending == same else (one, other)
