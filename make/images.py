"""How many images a data set has, as far as make needs to know before anything is installed: standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.cli import UserError
from hrnet.tars import find_tars

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


def count_tars(dataset: Path) -> int:
    """The tar files of a data set; 0 if it is one of files, or one that preprocessing refuses."""
    try:
        return len(find_tars(dataset)[1])
    except UserError:
        return 0


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def count_coco(annotations: Path, enough: int) -> int:
    """The images that an annotation file lists; 0 if it is missing, or too small for more than `enough`."""
    if not annotations.is_file() or annotations.stat().st_size <= enough * LEAST_ENTRY:
        return 0
    return annotations.read_bytes().count(b'"file_name"')
