"""Records with one changed value, and the errors of their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.io.records import FormatError

HASH = "0123456789abcdef" * 4


def set_value(file: Path, path: tuple[Any, ...], value: Any) -> None:
    """Replace the value at `path` in a JSON file; `...` removes it."""
    content = holder = json.loads(file.read_text())
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    file.write_text(json.dumps(content))


def check_invalid(read: Callable[[Path], object], file: Path, part: str) -> FormatError:
    """Reading `file` is an error that names it, with `part` in its line."""
    with pytest.raises(FormatError) as caught:
        read(file)
    assert caught.value.where == file
    assert part in str(caught.value)
    return caught.value
