"""The error lines of scripts."""

from __future__ import annotations


def check_error(stderr: str, module: str, *parts: object) -> None:
    """The last line of stderr is the error of `module` and contains all parts."""
    last = stderr.splitlines()[-1]
    assert last.startswith((f"{module}: error: ", f"{module}: failed: ")), stderr
    for part in parts:
        assert str(part) in last, stderr
