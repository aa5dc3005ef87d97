"""Write files atomically, with the file modes that ais_bench requires.

ais_bench rejects links, inputs that group or others may write, output directories with more permissions than 0750, and
input directories with more than MAX_FILES entries. So all files get mode 0640 and all directories 0750, for any
umask.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

from hrnet.cli import LockedError, UserError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
NUMBER = re.compile(r"[0-9]+")
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")  # a normalised path
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: paths are relative to the working directory; exchange two paths
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
MAX_FILES = 100_000  # entries of a directory of inputs
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
)  # in a data set, files with other extensions are opened to recognise them

AnyPath = Union[str, "os.PathLike[str]"]


def make_folder(path: AnyPath) -> Path:
    """Make `path` and its missing parents with mode 0750; an existing directory keeps its mode."""
    path = Path(path)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError("not a directory", where=path, hint=f"move the file out of the way: mv {path} {path}.old")
    if path.parent != path:
        make_folder(path.parent)
    path.mkdir(FOLDER_MODE, exist_ok=True)  # never more permissions, even if the run is killed before chmod
    path.chmod(FOLDER_MODE)
    if (mode := path.stat().st_mode & 0o777) != FOLDER_MODE:
        found, hint = f"{mode:04o}", "give BUILD=<directory on another disk>"
        raise UserError(
            "this disk does not store file modes", where=path, expected=f"{FOLDER_MODE:04o}", found=found, hint=hint
        )
    return path


def temporary_name(path: AnyPath) -> Path:
    """The name of a file while it is written. The next run overwrites what a killed run left."""
    return Path(_temporary_name(os.fspath(path)))


def _temporary_name(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp")


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`. If the block succeeds, the file is renamed to `path`, else it is removed.

    The temporary file is locked meanwhile: a second run that wants to write `path` gets a UserError.
    """
    with _replacing(os.fspath(path)) as (temporary, _):
        yield Path(temporary)


def write_atomic(path: AnyPath, *parts: Union[bytes, memoryview]) -> None:
    """Write `parts` as `replacing` does, but through the locked descriptor, which is faster for many small files."""
    with _replacing(os.fspath(path)) as (_, descriptor):
        if os.fstat(descriptor).st_size:  # left by a killed run
            os.ftruncate(descriptor, 0)
        for part in parts:
            left = memoryview(part).cast("B")
            while left:
                left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[tuple[str, int]]:
    """Yield the temporary path and its locked descriptor."""
    temporary = _temporary_name(path)
    try:
        descriptor = _lock(temporary, "another run is writing it", path)
        try:
            yield temporary, descriptor
            os.chmod(descriptor, FILE_MODE)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.strerror and str(error.filename or temporary) == temporary:
            error.filename = path  # before: the temporary name, or no name if the disk is full
        raise


def _lock(path: str, what: str, where: AnyPath) -> int:
    """Open and lock `path`; the lock ends when the descriptor is closed or the process ends. Raises
    LockedError(`what`, `where`) if another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # another process has just renamed or removed it: try again
        except OSError as error:
            holder = lock_holder(descriptor) if isinstance(error, BlockingIOError) else ""
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                hint = "wait until it ends, then run the same command again"
                raise LockedError(what, where=where, found=holder or None, hint=hint) from None
            hint = "give BUILD=<directory on another disk>"
            raise UserError(f"cannot lock files on this disk: {error.strerror}", where=path, hint=hint) from None
        os.close(descriptor)


def find_locked(folder: AnyPath) -> Optional[tuple[str, str]]:
    """The path of a lock below `folder` that another process holds, and the name of that other process
    (see `lock_holder`); None if all locks are free."""
    for root, _, names in os.walk(folder):
        for name in names:
            if not name.endswith("_lock") and not (name[0] == "." and name.endswith(".tmp")):
                continue
            path = os.path.join(root, name)
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return path, lock_holder(file.fileno())
    return None


def lock_holder(descriptor: int) -> str:
    """The text `process 123` for the process that has locked a file, from Linux's /proc/locks; empty if it is unknown,
    for example in another container."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii") as locks:
        for words in map(str.split, locks):
            if words[1] == "FLOCK" and words[5] == device and os.path.exists(f"/proc/{words[4]}"):
                return f"process {words[4]}"
    return ""


@contextlib.contextmanager
def replacing_folder(path: AnyPath) -> Iterator[Path]:
    """Yield a new, empty directory beside the directory `path`. If the block succeeds, the new directory replaces
    `path` with all its content: in one step, or in two on a disk without RENAME_EXCHANGE. If the block fails, the new
    directory is removed. `<path>_lock` is locked meanwhile."""
    path = Path(path)
    temporary, old = temporary_name(path), path.with_name(f".{path.name}.old")
    make_folder(path.parent)
    with locked(path.with_name(f"{path.name}_lock")):
        if old.exists() and not path.exists():  # a killed run on a disk without RENAME_EXCHANGE
            old.rename(path)
        for rest in (temporary, old):  # of a killed run
            shutil.rmtree(rest, ignore_errors=True)
        try:
            yield make_folder(temporary)
            if not path.exists():
                temporary.rename(path)
            elif not _exchange(temporary, path):
                path.rename(old)
                temporary.rename(path)
                shutil.rmtree(old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # after an exchange it contains the old files


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories atomically by Linux's renameat2. Returns False if the system or the disk cannot do
    it."""
    # Not imported at the top of this file (neither is hashlib), to save time: each call of make imports this file
    import ctypes

    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    return exchange is not None and exchange(*names, RENAME_EXCHANGE) == 0


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` as UTF-8, atomically; file names that are not UTF-8 keep their bytes."""
    write_atomic(path, text.encode("utf-8", "surrogateescape"))


def sha256_file(path: AnyPath) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    import hashlib

    return _digest(path, hashlib.sha256())


def md5_file(path: AnyPath) -> str:
    """The MD5 of a file's bytes, in hex. Not secure; used because publishers of weights publish it."""
    import hashlib

    return _digest(path, hashlib.md5(usedforsecurity=False))


def _digest(path: AnyPath, digest: Any) -> str:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def natural_key(name: str) -> str:
    """Sort key for natural order (`img2` before `img10`), in which ais_bench reads a directory. If numbers are equal,
    as in `img01` and `img1`, the text decides. The key is one string, which is fast for a million names."""
    return f"{NUMBER.sub(_number_key, name)}\0\0{name}"


def _number_key(match: re.Match[str]) -> str:
    """A number as text that sorts by value, and before any other text."""
    digits = match[0].lstrip("0")
    return f"\0{chr(len(digits) + 1)}{digits}"


def relative_path(folder: AnyPath, name: str) -> str:
    """Normalise a file name from a list to a path relative to `folder`, with `/` and without `.` or `..`. The name may
    be relative to `folder`, or absolute. Raises ValueError with the reason if it is not a file name in `folder`."""
    if PLAIN.fullmatch(name):
        return name
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError("not a file name")
    name = os.fsdecode(encoded)  # as os.scandir returns it, in any locale
    path = os.path.normpath(name.replace("\\", "/"))  # in lists from Windows
    if os.path.isabs(path):
        roots = (os.path.abspath(folder), os.path.realpath(folder))
        root = next((root for root in roots if path.startswith(os.path.join(root, ""))), None)
        if root is None:
            raise ValueError("outside of the directory")
        path = os.path.relpath(path, root)
    if path == os.pardir or path.startswith(os.pardir + os.sep):
        raise ValueError("outside of the directory")
    if path == os.curdir:
        raise ValueError("not a file name")
    return path


def as_size(count: float) -> str:
    """A number of bytes as text, such as `1.5 MB`, in the largest of the UNITS that gives at least 1. Less than 1 kB is
    also written in kB, such as `0.5 kB`."""
    unit, size = next((each for each in UNITS if count >= each[1]), UNITS[-1])
    return f"{count / size:.1f} {unit}"


def check_free_disk(folder: AnyPath, need: int, hint: str = "give BUILD=<directory on a larger disk>") -> None:
    """Raise UserError if the disk of `folder`, which need not exist yet, has less than `need` bytes free."""
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < need:
        what = "too little free disk space"
        raise UserError(what, where=folder, expected=as_size(need), found=as_size(free), hint=hint)


@contextlib.contextmanager
def locked(path: AnyPath) -> Iterator[int]:
    """Lock `path`; yield its descriptor, which a tool inherits so that the lock lasts as long as the tool runs."""
    descriptor = _lock(os.fspath(path), "locked by another run, or by the tool of a killed run", path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
