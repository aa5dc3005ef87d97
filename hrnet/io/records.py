"""Read and write JSON records as dataclasses; keys and types are checked. docs/formats.md lists the records.

A record is one JSON object with "kind", "format_version" and the fields of its dataclass. It has one line for each key,
and for each entry of an object or a list of objects, so that grep finds one of 50,000 images.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

from hrnet.cli import FormatError, first_few
from hrnet.io.files import AnyPath, write_text

FORMAT_VERSION = 1

_get_type_hints = functools.cache(get_type_hints)


def read_json(path: AnyPath, what: str, hint: Optional[str] = None, expected: Optional[str] = None) -> Any:
    """The content of a JSON file. Raises FormatError when it is missing (`no WHAT`) or not JSON. If `hint` is a command
    of make, which writes the file, the hint for a damaged file also removes it: else make would not run the stage."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows editors write a byte order mark
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FormatError(f"no {what}", where=path, expected=expected, hint=hint) from None
    except (ValueError, RecursionError) as error:
        if hint and hint.removeprefix("run ").startswith("make "):
            hint = f"rm {path}; {hint.removeprefix('run ')}"
        line, found = _json_error(error), _other_kind(path)
        raise FormatError(f"not JSON: {line}", where=path, expected=expected, found=found, hint=hint) from None


def _json_error(error: Union[ValueError, RecursionError]) -> str:
    """What is wrong with the text of a JSON file."""
    if isinstance(error, json.JSONDecodeError):
        rest = error.doc[error.pos :].strip() and not error.msg.startswith("Unterminated string")
        start = error.msg[:1].lower() + error.msg[1:]
        return f"{start} in line {error.lineno}, column {error.colno}" if rest else "it ends too early (truncated)"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return "nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"


def _other_kind(path: AnyPath) -> Optional[str]:
    """The kind of a file that is not JSON, such as an HTML page; None for text that begins like JSON."""
    from hrnet.io.recognise import recognise  # only for errors

    kind = recognise(path)
    return kind.name if kind and not re.search("begins with '[{[]", kind.name) else None


def check_unique(what: str, values: Iterable[object], path: AnyPath) -> None:
    """Raise FormatError (`WHAT`) if values occur more than once."""
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise FormatError(what, where=path, found=first_few(twice))


def write_record(path: AnyPath, kind: str, content: Mapping[str, Any]) -> None:
    """Write a JSON record with its kind and format version, atomically."""
    write_text(path, record_text(kind, content))


def record_text(kind: str, content: Mapping[str, Any]) -> str:
    """The text of a record: JSON with one line for each key, and for each entry of an object or a list of objects."""
    record = {"kind": kind, "format_version": FORMAT_VERSION, **content}

    def value_text(value: Any) -> str:
        if isinstance(value, dict) and value:
            return (
                "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n }"
            )
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {value_text(value)}" for key, value in record.items()) + "\n}\n"


def read_kind(path: AnyPath) -> Optional[str]:
    """The kind of a JSON record; None if the file is missing or not a record."""
    try:
        content = read_json(path, "record")
    except FormatError:
        return None
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


def read_record(path: AnyPath, kind: str, hint: Optional[str] = None) -> dict[str, Any]:
    """Read a JSON record of one kind; `hint`: the command that writes it. Raises FormatError."""
    content = read_json(path, f"{kind} record", hint=hint)
    found = content.get("kind") if isinstance(content, dict) else type(content).__name__
    if found != kind:
        raise FormatError("wrong kind of record", where=path, expected=f"kind {kind!r}", found=repr(found), hint=hint)
    if content.get("format_version") != FORMAT_VERSION:
        found = content.get("format_version")
        raise FormatError("unsupported format version", where=path, expected=FORMAT_VERSION, found=found, hint=hint)
    return content


def to_json(record: Any) -> Any:
    """Convert a dataclass, or a list of them, to JSON values; fields that have their default are left out, except those
    with a default_factory."""
    if isinstance(record, list):
        return [to_json(entry) for entry in record]
    if not is_dataclass(record):
        return record
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {field.name: to_json(value) for field, value in values if field.default is MISSING or value != field.default}


def from_json(record_type: Any, values: Any, path: AnyPath, what: str) -> Any:
    """Convert JSON values to a dataclass, with lists of dataclasses in it. Raises FormatError for missing or unknown
    keys and wrong types; a field with a default may be missing, but not one with a default_factory."""
    hints = _get_type_hints(record_type)
    if not isinstance(values, dict):
        raise FormatError(f"{what} is not a JSON object", where=path, found=json.dumps(values))
    given = set(values) - {"kind", "format_version"}
    needed = {field.name for field in fields(record_type) if field.default is MISSING}
    wrong = [f"{name} missing" for name in sorted(needed - given)]
    wrong += [f"{name} unknown" for name in sorted(given - set(hints))]
    if wrong:
        raise FormatError(f"wrong keys in {what}", where=path, found=", ".join(wrong))
    built = {}
    for name, hint in hints.items():
        if name not in values:
            continue
        value = values[name]
        if get_origin(hint) is list and is_dataclass(get_args(hint)[0]) and isinstance(value, list):
            value = [from_json(get_args(hint)[0], entry, path, f"{name} {i}") for i, entry in enumerate(value)]
        elif not _has_type(value, hint):
            expected = record_type.__dataclass_fields__[name].type
            raise FormatError(f"{what}: invalid {name}", where=path, expected=expected, found=json.dumps(value))
        built[name] = value
    return record_type(**built)


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a JSON value has an annotated type; an integer is also accepted for a float."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is list:
        return isinstance(value, list) and all(_has_type(item, inner[0]) for item in value)
    if kind is dict:
        return isinstance(value, dict) and all(_has_type(item, inner[1]) for item in value.values())
    if kind is Union:
        return any(_has_type(value, each) for each in inner)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)
