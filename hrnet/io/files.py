"""Files and folders as ais_bench accepts them, written whole or not at all.

ais_bench refuses links, inputs that group or world may write, and an output folder wider than 0750, so all that the
pipeline writes is 0640 and all that it makes is 0750, whatever the umask. More than MAX_FILES in one folder it refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from hrnet.cli import UserError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
NUMBER = re.compile(r"[0-9]+")
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")  # a path that is clean as it is
MAX_FILES = 100_000  # entries of a folder of inputs
IMAGES = (
    ".jpeg",
    ".jpg",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".ppm",
    ".pgm",
    ".tif",
    ".tiff",
)  # other files are opened to see

AnyPath = Union[str, "os.PathLike[str]"]


def make_folder(path: AnyPath) -> Path:
    """Make `path` and its missing parents with mode 0750; a folder that was there keeps its mode."""
    path = Path(path)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError("is no folder", where=path, hint=f"move the file out of the way: mv {path} {path}.old")
    if path.parent != path:
        make_folder(path.parent)
    path.mkdir(FOLDER_MODE, exist_ok=True)  # never wider, for a run that is killed before the next line
    path.chmod(FOLDER_MODE)
    if (mode := path.stat().st_mode & 0o777) != FOLDER_MODE:
        found, hint = f"{mode:04o}", "set BUILD= to another disk"
        raise UserError(
            "this disk keeps no file modes", where=path, expected=f"{FOLDER_MODE:04o}", found=found, hint=hint
        )
    return path


def temporary_name(path: AnyPath) -> Path:
    """Where a file stands until it is whole; a killed run's is written over by the next one."""
    folder, name = os.path.split(path)
    return Path(folder, f".{name}.tmp")


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary name beside `path`; when the block succeeds it becomes `path` at once, else it is removed.

    The name is held alone meanwhile: a second run that would write `path` too gets a UserError.
    """
    with _replacing(os.fspath(path)) as (temporary, _):
        yield Path(temporary)


def write_whole(path: AnyPath, *parts: Union[bytes, memoryview]) -> None:
    """Write `parts` as `replacing` does, through the descriptor that holds the name: for many small files."""
    with _replacing(os.fspath(path)) as (_, descriptor):
        os.ftruncate(descriptor, 0)
        for part in parts:
            left = memoryview(part).cast("B")
            while left:
                left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[tuple[str, int]]:
    """The temporary name, and the descriptor that holds it."""
    temporary = str(temporary_name(path))
    try:
        descriptor = _hold(temporary, UserError("another run is writing it", where=path))
        try:
            yield temporary, descriptor
            os.chmod(temporary, FILE_MODE)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.strerror and str(error.filename or temporary) == temporary:
            error.filename = path  # a full disk tells no name, the rest that of the temporary file
        raise


def _hold(path: str, refusal: UserError) -> int:
    """A descriptor that holds `path` alone until it is closed, by whatever end of the process too. Raises `refusal`
    where another holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # as where it is another file: whoever held it has just renamed or removed it
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise refusal from None
            hint = "set BUILD= to another disk"
            raise UserError(f"cannot be locked on this disk: {error.strerror}", where=path, hint=hint) from None
        os.close(descriptor)


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` as UTF-8 in one step; file names that are not UTF-8 keep their bytes."""
    write_whole(path, text.encode("utf-8", "surrogateescape"))


def sha256_file(path: AnyPath) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    return _digest(path, hashlib.sha256())


def md5_file(path: AnyPath) -> str:
    """The MD5 of a file's bytes, in hex: not for safety, but since that is what publishers of weights state."""
    return _digest(path, hashlib.md5(usedforsecurity=False))


def _digest(path: AnyPath, digest: hashlib._Hash) -> str:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def natural_key(name: str) -> str:
    """Sort key that puts `img2` before `img10`, the order in which ais_bench reads a folder; `img01` and `img1`, equal
    as numbers, keep the order of their letters. One string, since a million names are sorted."""
    return f"{NUMBER.sub(_number_key, name)}\0\0{name}"


def _number_key(match: re.Match[str]) -> str:
    """Lower than any text, and the more digits the higher."""
    digits = match[0].lstrip("0")
    return f"\0{chr(len(digits) + 1)}{digits}"


def below(folder: AnyPath, name: str) -> str:
    """The path of a file relative to `folder`, with `/` and without `.` or `..`, for a name from a list: relative to
    `folder`, or absolute and below it. Raises ValueError with what is wrong with the name."""
    if PLAIN.fullmatch(name):
        return name
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError("not a file name")
    name = os.fsdecode(encoded)  # as os.scandir returns it, also where the locale is not UTF-8
    path = os.path.normpath(name.replace("\\", "/"))  # lists from Windows
    if os.path.isabs(path):
        roots = (os.path.abspath(folder), os.path.realpath(folder))
        root = next((root for root in roots if path.startswith(os.path.join(root, ""))), None)
        if root is None:
            raise ValueError("lies outside the folder")
        path = os.path.relpath(path, root)
    if path == os.pardir or path.startswith(os.pardir + os.sep):
        raise ValueError("leaves the folder")
    if path == os.curdir:
        raise ValueError("not a file name")
    return path


def check_free_disk(folder: AnyPath, need: int, hint: str = "set BUILD= to a larger disk") -> None:
    """Raise UserError when the disk of `folder`, there or not yet, has less than `need` bytes free."""
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < need:
        expected, found = f"{need / 1e9:.1f} GB", f"{free / 1e9:.1f} GB"
        raise UserError("too little free disk", where=folder, expected=expected, found=found, hint=hint)


@contextlib.contextmanager
def locked(path: AnyPath) -> Iterator[int]:
    """Hold `path` alone; yield its descriptor, which a tool inherits so that the lock lives as long as the tool."""
    descriptor = _hold(
        os.fspath(path), UserError("another run, or the tool of a killed one, is still at work", where=path)
    )
    try:
        yield descriptor
    finally:
        os.close(descriptor)
