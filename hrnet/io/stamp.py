"""What a product was made from, so that a stage which make restarts can see that nothing relevant changed.

make restarts a stage when any file is newer than its product. The stage compares three things with the stamp beside
the product (`.<product>.stamp`, a JSON record): its settings, the SHA-256 of its input files, and the SHA-256 of its
own code (the import closure of its script). If all are equal and the product is intact, it only touches the product.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.code import code_sha256
from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, read_record, write_record


class Stamp(NamedTuple):
    """What a product is made from. `files`: SHA-256 of each input file by its role, such as `weights`."""

    settings: dict[str, Any]  # JSON values
    files: dict[str, str]
    code_sha256: str

    @staticmethod
    def of(modules: Sequence[str], settings: Mapping[str, Any], files: Mapping[str, AnyPath]) -> Stamp:
        """The stamp of a run of `modules` (the script, and what it loads by name) now. Raises OSError for a missing
        file."""
        hashes = {role: sha256_file(file) for role, file in files.items()}
        return Stamp(dict(settings), hashes, code_sha256(*modules))


def stamp_path(product: AnyPath) -> Path:
    """A hidden file beside the product, never inside a directory that is a product: ais_bench reads those."""
    path = Path(product)
    return path.with_name(f".{path.name}.stamp")


def write_stamp(product: AnyPath, stamp: Stamp, records: Iterable[AnyPath]) -> None:
    """Write the stamp, after the product. `records`: the files that the stage wrote last, whose hashes show later that
    they are intact."""
    products = {Path(record).name: sha256_file(record) for record in records}
    write_record(stamp_path(product), "stamp", {**stamp._asdict(), "products": products})


def is_current(product: AnyPath, stamp: Stamp, records: Iterable[AnyPath]) -> bool:
    """Whether the product was made by exactly this stamp and `records` are as they were written."""
    try:
        content = read_record(stamp_path(product), "stamp")
        products = {Path(record).name: sha256_file(record) for record in records}
    except (FormatError, OSError):
        return False  # no stamp, an unreadable one, or no product: the stage runs
    return all(content.get(key) == value for key, value in {**stamp._asdict(), "products": products}.items())


def touch(product: AnyPath, records: Sequence[AnyPath], again: Optional[str] = None) -> None:
    """Make `records` newer than what make compares them with, and report it in one line. `again`: the command after
    which the stage does its work anew (default: remove the last record)."""
    for record in records:
        os.utime(record)
    again = again or f"rm {records[-1]}"
    print(f"{product} is up to date: same inputs, settings and code (to make it again: {again})")


def data_state(root: AnyPath, files: Iterable[AnyPath], sources: Iterable[str]) -> dict[str, Optional[list[int]]]:
    """What make watches of a data set, {path: [time of the last change in ns, bytes]; null where there is none}: its
    list or annotation `files`, and the directories of its images, whose times change when files are added or removed.
    Image files themselves are not watched: there are too many. `sources`: the images' paths below `root`."""
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
