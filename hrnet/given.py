"""Values given to the call of make that started this script. make/remembered.py writes them before the first stage
runs, and copies the files that it replaces to the directory SETTINGS_BEFORE; uses only the standard library."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REFUSED = 2  # exit code


def settle(code: int) -> str:
    """Forget the values of this call if its first stage fails with exit code 2, else keep them. `code`: the exit code
    of a stage. Returns a line about the forgotten values, or an empty string."""
    if not (before := os.environ.get("SETTINGS_BEFORE")):
        return ""
    forgotten = []
    if code == REFUSED:
        for old in sorted(Path(before).glob("*.mk")):
            path = old.parent.with_name("settings") / old.name
            forgotten.append(path.read_text(encoding="utf-8").strip().replace(" ?= ", "="))
            if old.stat().st_size:
                old.replace(path)  # with its time: products made with the old value stay up to date
            else:
                path.unlink()
    shutil.rmtree(before, ignore_errors=True)  # an earlier stage of this call may have removed it
    return f"not remembered, because the first stage failed: {' '.join(forgotten)}" if forgotten else ""
