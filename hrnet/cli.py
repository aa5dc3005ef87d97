"""What every stage's command line shares: its errors, its exit codes, its progress.

Exit codes: 0 done; 1 the work was done and its result is bad (a missed gate, rejected images, lost parity);
2 a user's or the machine's fault (usage, missing or malformed files, a full disk), told in one line.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A fault that the user can mend: one line that says what, where, expected, found and the command that mends it."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        mend: Optional[str] = None,
    ) -> None:
        line = what if where is None else f"{where}: {what}"
        facts = [f"{name} {value}" for name, value in (("expected", expected), ("found", found)) if value is not None]
        if facts:
            line += f" ({', '.join(facts)})"
        if mend:
            line += f"; {mend}"
        super().__init__(line)


class WorkFailed(Exception):
    """The work was done and its result is bad (exit 1): rejected images, lost parity, a missed gate."""


def command(main: Callable[..., Optional[int]]) -> Callable[..., int]:
    """Wrap a stage's `main(argv)`: it returns an exit code, and a fault is one line on stderr, never a traceback."""

    @functools.wraps(main)
    def wrapped(argv: Optional[list[str]] = None) -> int:
        spec = getattr(sys.modules["__main__"], "__spec__", None)  # None when the file is run by its path
        script = spec.name if spec else os.path.basename(sys.argv[0])
        name = script if main.__module__ == "__main__" else main.__module__
        try:
            return main(argv) or 0
        except UserError as fault:
            print(f"{name}: error: {fault}", file=sys.stderr)
            return 2
        except WorkFailed as fault:
            print(f"{name}: failed: {fault}", file=sys.stderr)
            return 1
        except OSError as fault:
            if fault.filename is None and fault.strerror is None:
                raise
            where = f"{fault.filename}: " if fault.filename is not None else ""
            print(f"{name}: error: {where}{fault.strerror}", file=sys.stderr)
            return 2
        except MemoryError as fault:
            print(f"{name}: error: out of memory{f' ({fault})' if str(fault) else ''}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{name}: interrupted; what is finished is kept, rerun the same command", file=sys.stderr)
            return 130

    return wrapped


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `least`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {text!r}")
        return int(text)

    return read


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable[T], total: Optional[int] = None, unit: str = "it", **options: Any) -> Iterator[T]:
    """`items`, with a tqdm bar on a terminal and silence elsewhere."""
    screen = options.get("file") or sys.stderr
    if not screen.isatty():
        return iter(items)
    from tqdm import tqdm  # here, since it takes as long to load as a small stage's work

    return iter(tqdm(items, total=total, unit=unit, leave=False, **options))


def first_few(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`: enough of a list to find the fault in one line."""
    listed = list(names)
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text} and {len(listed) - most} more"
