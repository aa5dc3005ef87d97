"""Record what a product was made from, so that a restarted stage can skip its work if nothing relevant changed.

make restarts a stage when any of its prerequisites is newer than its product. The stage compares three things with the
stamp beside the product (`.<product>.stamp`, a JSON record): its settings, the SHA-256 of its input files (for a
directory with one file for each image: `tensors_state`), and the SHA-256 of its own code (the import closure of its
script). If they are equal and the product is unchanged, the stage only touches the product.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.code import code_sha256
from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, read_record, write_record

TENSORS = (".bin", ".npy", ".txt")  # endings of inputs and outputs


class Stamp(NamedTuple):
    """What a product is made from. `files`: SHA-256 of each input file by its role, such as `weights`."""

    settings: dict[str, Any]  # JSON values
    files: dict[str, str]
    code_sha256: str

    @staticmethod
    def compute(modules: Sequence[str], settings: Mapping[str, Any], files: Mapping[str, AnyPath]) -> Stamp:
        """The stamp for a run now. `modules`: the script, and modules that it loads by name. Raises OSError for a
        missing file."""
        hashes = {role: sha256_file(file) for role, file in files.items()}
        return Stamp(dict(settings), hashes, code_sha256(*modules))


def stamp_path(product: AnyPath) -> Path:
    """A hidden file beside the product; not inside a product directory, since ais_bench reads all files in it."""
    path = Path(product)
    return path.with_name(f".{path.name}.stamp")


def write_stamp(product: AnyPath, stamp: Stamp, records: Iterable[AnyPath]) -> None:
    """Write the stamp, after the product. `records`: the files that the stage wrote last; their hashes are stored to
    check later that they are unchanged."""
    products = {Path(record).name: sha256_file(record) for record in records}
    write_record(stamp_path(product), "stamp", {**stamp._asdict(), "products": products})


def is_current(product: AnyPath, stamp: Stamp, records: Iterable[AnyPath]) -> bool:
    """Whether the product was made with exactly this stamp, and `records` are unchanged."""
    try:
        content = read_record(stamp_path(product), "stamp")
        products = {Path(record).name: sha256_file(record) for record in records}
    except (FormatError, OSError):
        return False  # no stamp, an unreadable one, or no product: the stage runs
    return all(content.get(key) == value for key, value in {**stamp._asdict(), "products": products}.items())


def touch(product: AnyPath, records: Sequence[AnyPath], again: Optional[str] = None) -> None:
    """Update the times of `records`, so that make sees them as current, and print one line. `again`: the command that
    makes the product again (default: remove the last record)."""
    for record in records:
        os.utime(record)
    again = again or f"rm {records[-1]}"
    print(f"{product} is up to date: same inputs, settings and code (to make it again: {again})")


def tensors_state(folder: AnyPath) -> str:
    """SHA-256 of the names, sizes and modification times of the inputs or outputs in a directory, which are too large
    to read each time. Returns the text `missing` if the directory does not exist."""
    try:
        with os.scandir(folder) as entries:
            files = sorted((entry.name, entry.stat()) for entry in entries if entry.name.endswith(TENSORS))
    except FileNotFoundError:
        return "missing"
    state = "".join(f"{name} {status.st_size} {status.st_mtime_ns}\n" for name, status in files)
    return hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()


def data_state(root: AnyPath, files: Iterable[AnyPath], sources: Iterable[str]) -> dict[str, Optional[list[int]]]:
    """The state of a data set, {path: [modification time in ns, bytes], or null if missing}, for its list or annotation
    `files` and its image directories, which change when files are added or removed. There are too many image files to
    include them. `sources`: paths of the images relative to `root`."""
    folders = {os.path.dirname(source) for source in sources}
    folders |= {folder[:end] for folder in folders for end in range(len(folder)) if folder[end] == "/"}
    state: dict[str, Optional[list[int]]] = {}
    for path in sorted(
        {*(str(file) for file in files), *(os.path.normpath(os.path.join(root, folder)) for folder in folders)}
    ):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            state[path] = None
        else:
            state[path] = [status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size]
    return state
