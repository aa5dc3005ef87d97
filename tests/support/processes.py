"""Processes that tests start and kill."""

from __future__ import annotations

import os
import subprocess
import time

AT_WORK = "_lock: "  # in the error line of a second run: the end of the lock file's name
SECONDS = 120  # after this time a process counts as hanging


def lines_until(process: subprocess.Popen[str], start: str) -> list[str]:
    """The lines that a process prints, up to the first one with this start, or all."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start):
            break
    return lines


def group_is_gone(group: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
