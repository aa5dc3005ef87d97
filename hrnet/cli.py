"""Command-line code of all scripts: errors, exit codes, number arguments, progress bars.

Exit codes: 0 success; 1 the work was done but its result is bad (accuracy dropped too much, images were rejected, the
export differs from PyTorch), or a tool failed; 2 wrong usage, missing or malformed files, a full disk; 130 Ctrl-C.
Errors are one line on stderr. A failed print does not change the exit code.
"""

from __future__ import annotations

import argparse
import errno
import functools
import io
import math
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional, TypeVar

from hrnet import exit_during_imports
from hrnet.given import begin, settle
from hrnet.hints import MAKE, in_call

T = TypeVar("T")

STDOUT, STDERR = 1, 2  # file descriptors
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class StageError(Exception):
    """An error that is reported in one line: `where: what (expected X, found Y); hint`.

    The parts are also attributes; a part that was not given is None. Commands of make in the hint get MODEL, BUILD and
    PYTHON of the call of make that started this script.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        hint: Optional[str] = None,
    ) -> None:
        hint = in_call(hint, os.environ) if hint else None
        self.what, self.where, self.expected, self.found, self.hint = what, where, expected, found, hint
        line = what if where is None else f"{where}: {what}"
        facts = [f"{name} {value}" for name, value in (("expected", expected), ("found", found)) if value is not None]
        if facts:
            line += f" ({', '.join(facts)})"
        if hint:
            line += f"; {hint}"
        super().__init__(CONTROL.sub(lambda found: repr(found[0])[1:-1], line))  # a file name may contain a line break

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all parts, for errors in worker processes."""
        parts: dict[str, Any] = {"where": self.where, "expected": self.expected, "found": self.found, "hint": self.hint}
        return functools.partial(type(self), self.what, **parts), ()


class UserError(StageError):
    """Wrong usage, a missing or malformed file, or an unsuitable machine: exit 2."""


class FormatError(UserError):
    """A missing or malformed file."""


class LockedError(UserError):
    """Another run writes the same files. The values of this call are not at fault, so make still remembers them."""


class WorkFailed(StageError):
    """The work was done but its result is bad, such as a dropped accuracy or rejected images: exit 1."""


def command(main: Callable[..., Optional[int]]) -> Callable[..., int]:
    """Decorate a script's `main(argv)`: it returns the exit code and prints errors as one line without a traceback."""

    @functools.wraps(main)
    def wrapped(argv: Optional[list[str]] = None) -> int:
        escape_output()
        if signal.getsignal(signal.SIGINT) is exit_during_imports:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        name = program_name() if main.__module__ == "__main__" else main.__module__
        name = name.removesuffix(".main").removesuffix(".__main__")
        decides = begin()
        try:
            code = run(name, argv)
        except SystemExit as end:  # of argparse
            finish(decides, end.code if isinstance(end.code, int) else 1)
            raise
        finish(decides, code)
        return code

    def finish(decides: bool, code: int) -> None:
        try:
            line = settle(code) if decides else ""
        except OSError as error:
            line = f"{error.filename}: {error.strerror}"
        if line:
            print(line, file=sys.stderr)

    def run(name: str, argv: Optional[list[str]]) -> int:
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"{name}: error: {error}", file=sys.stderr)
            if MAKE.search(error.hint or "") or isinstance(error, LockedError):
                settle(0)  # the hint is another call of make, or this one again, which needs the same values
            return 2
        except WorkFailed as error:
            print(f"{name}: failed: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            if error.filename is None and error.strerror is None:
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            print(f"{name}: error: {where}{error.strerror}", file=sys.stderr)
            return 2
        except MemoryError as error:
            print(f"{name}: error: out of memory{f' ({error})' if str(error) else ''}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{name}: interrupted; finished work is kept, rerun the same command", file=sys.stderr)
            return 130

    return wrapped


def program_name() -> str:
    """The name of the module that this process runs, or of its file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # None when the file is run by its path
    return str(spec.name).removesuffix(".__main__") if spec else os.path.basename(sys.argv[0])


class _SafeOutput(io.FileIO):
    """stdout or stderr that raises no exceptions, so that a failed print does not stop a stage. After a failed write,
    all output goes to /dev/null."""

    def write(self, text: Any) -> int:
        try:
            written = super().write(text)
            if written is None:  # the pipe is full, and another process that shares it made it non-blocking
                os.set_blocking(self.fileno(), True)
                written = super().write(text)
            return written
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # also for the tools that inherit it
            os.close(null)
            if self.fileno() == STDOUT and error.errno != errno.EPIPE:
                print(f"stdout: {error.strerror}; the rest is not printed", file=sys.stderr)
            return len(text)


def escape_output() -> None:
    """Make sure that no print fails. Characters that the output's encoding lacks are escaped, for example in a file
    name that is not UTF-8. Output to a closed pipe or a full disk is dropped."""
    # If stdin, stdout or stderr is closed, the next file that is opened would get its number.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            lines = stream is None or stream.line_buffering or stream.write_through
            screen = io.BufferedWriter(_SafeOutput(descriptor, "w", closefd=False))
            encoding = stream and stream.encoding
            setattr(sys, name, io.TextIOWrapper(screen, encoding, "backslashreplace", line_buffering=lines))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def integer(least: int, most: Optional[int] = None) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""
    expected = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return int(text)

    return read


def real(least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number from `least` to `most`, and greater than `above`."""
    bounds = {"of at least": least, "greater than": above, "at most": most}
    limits = [f"{name} {bound:g}" for name, bound in bounds.items() if math.isfinite(bound)]
    expected = f"a number {' and '.join(limits)}".rstrip()

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most and value > above):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return value

    return read


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable[T], total: Optional[int] = None, unit: str = "it", **options: Any) -> Iterator[T]:
    """Iterate over `items`, with a tqdm bar if stderr is a terminal."""
    screen = options.get("file") or sys.stderr
    if not screen.isatty():
        return iter(items)
    from tqdm import tqdm  # imported here: loading it takes as long as a small stage

    return iter(tqdm(items, total=total, unit=unit, leave=False, **options))


def plural(count: int, one: str, many: str = "") -> str:
    """A number of things, such as `1 image` or `2 images`. `many`: the plural; without it, `one` and an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def first_few(names: Iterable[str], most: int = 3) -> str:
    """The first `most` names of a list as text: `a, b, c and 4 more`."""
    listed = list(names)
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text} and {len(listed) - most} more"
