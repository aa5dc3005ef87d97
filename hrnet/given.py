"""Keep or forget the values, such as WEIGHTS, that were given to the call of make that started this script.

make/remembered.py writes each value to a file before the first stage runs. The environment variable SETTINGS_BEFORE is
the path of a directory with two files for each value: WEIGHTS.mk is the file that was replaced (empty if there was
none), WEIGHTS.given is a copy of the new one. Uses only the standard library.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Optional

REJECTED = 2  # exit code
_before: Optional[Path] = None  # the directory in SETTINGS_BEFORE, from `begin` until the values are kept or forgotten


def begin() -> bool:
    """Whether make started this script, so that `settle` must be called. Only the first stage of the call decides if
    the values are kept: it removes the directory, so `settle` has no effect in later stages. Removes SETTINGS_BEFORE
    from the environment, so that the processes that this script starts do not decide too."""
    global _before
    name = os.environ.pop("SETTINGS_BEFORE", "")
    if name:
        _before = Path(name)
    return bool(name)


def settle(code: int) -> str:
    """Forget the values of this call of make if `code`, the exit code of its first stage, is 2; else keep them. Returns
    a line about the forgotten values, or an empty string. If a process calls `settle` again, it has no effect."""
    global _before
    before, _before = _before, None
    if before is None:
        return ""
    forgotten = []
    try:
        if code == REJECTED:
            forgotten = [_forget(old, before.with_name("settings") / old.name) for old in sorted(before.glob("*.mk"))]
    finally:
        shutil.rmtree(before, ignore_errors=True)  # an earlier stage of this call may have removed it
    text = " ".join(filter(None, forgotten))
    return f"not remembered, because the first stage failed: {text}" if text else ""


def _forget(old: Path, path: Path) -> str:
    """Put the old file back, with its time: products made with the old value stay up to date. Returns NAME=value, or an
    empty string if another call has written the file since, or the new value was empty."""
    given = old.with_suffix(".given").read_text(encoding="utf-8")
    if not path.is_file() or path.read_text(encoding="utf-8") != given:
        return ""
    if old.stat().st_size:
        old.replace(path)
    else:
        path.unlink()
    name, _, value = given.rstrip("\n").partition(" ?= ")
    return f"{name}={value}" if value else ""
