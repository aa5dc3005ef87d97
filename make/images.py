"""What make needs to know of a data set before anything is installed: how many images, and whether it has changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

LEAST_ENTRY = 40  # bytes of an image's entry in a COCO annotation file; a smaller file cannot hold more


def count_classified(dataset: Path) -> int:
    """The labels in a data set's list, or the files in its class folders; 0 if there is neither."""
    for name in ("val_label.txt", "val_list.txt"):
        if (dataset / name).is_file():
            return count_lines(dataset / name)
    folders = (
        [entry.path for entry in os.scandir(dataset / "val") if entry.is_dir()] if (dataset / "val").is_dir() else []
    )
    return sum(len(os.listdir(folder)) for folder in folders)


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def count_coco(annotations: Path, enough: int) -> int:
    """The images that an annotation file lists; 0 if it is missing, or too small for more than `enough`."""
    if not annotations.is_file() or annotations.stat().st_size <= enough * LEAST_ENTRY:
        return 0
    return annotations.read_bytes().count(b'"file_name"')


def state(path: str) -> Optional[list[int]]:
    """Time of the last change in ns and bytes (0 for a directory), as hrnet/io/stamp.py records them; None if there is
    no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size]
