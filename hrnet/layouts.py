"""Recognise the layout of a data set by the names of its files and directories; images, labels and annotations are not
read. Uses only the standard library, since make checks DATASET before packages are installed. hrnet/datasets.py
describes the layouts."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.cli import UserError, first_few
from hrnet.io.files import IMAGES
from hrnet.tar_files import LISTS, find_tars

IMAGENET_LAYOUTS = "val/*.JPEG and val_label.txt; or val/<class>/*; or val_list.txt; or *.tar"
COCO_LAYOUT = "annotations/person_keypoints_<split>.json and images/<split>/*"
SHOWN = 1000  # at most so many names are read from a directory that is not a data set


def root_of(dataset: Path) -> Path:
    """The data set's directory; `dataset` may also be its `val`, as in the model zoo's commands."""
    return dataset.parent if dataset.name == "val" and not (dataset / "val").is_dir() else dataset


def check_imagenet(dataset: Path) -> None:
    """Raise UserError if `dataset` has none of IMAGENET_LAYOUTS."""
    root = root_of(dataset)
    if any((root / name).is_file() for name in LISTS):
        return
    if (root / "val").is_dir() and any(entry.is_dir() or entry.is_symlink() for entry in os.scandir(root / "val")):
        return
    if find_tars(dataset)[1]:
        return
    if not dataset.is_dir():
        raise UserError(
            "no such data set directory", where=dataset, expected=IMAGENET_LAYOUTS, hint="give DATASET=<directory>"
        )
    if (root / "val").is_dir():
        hint = f"if the images are directly in val/, write {root}/val_label.txt, lines `name.JPEG index`"
        raise UserError("no class directories", where=root / "val", found=contents(root / "val"), hint=hint)
    raise UserError(
        "not an ImageNet directory", where=dataset, expected=IMAGENET_LAYOUTS, found=contents(root), hint=advice(root)
    )


def check_coco(dataset: Path, split: str) -> None:
    """Raise UserError if `dataset` has no annotation file or no images of a split, such as val2017."""
    needed = (dataset / "annotations" / f"person_keypoints_{split}.json", dataset / "images" / split)
    for path in needed:
        if not path.exists():
            what = f"not a COCO directory: no {path.relative_to(dataset)}"
            raise UserError(
                what, where=dataset, expected=COCO_LAYOUT, found=contents(dataset), hint=advice(dataset, pose=True)
            )


def contents(directory: Path) -> str:
    """The first names in a directory, directories first."""
    entries = [entry for entry, _ in zip(os.scandir(directory), range(SHOWN)) if entry.name[0] != "."]
    names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    return first_few(sorted(names, key=lambda name: not name.endswith("/"))) or "an empty directory"


def advice(directory: Path, pose: bool = False) -> str:
    """What to do with a directory that has no known layout."""
    names = {entry.name: entry.is_dir() for entry, _ in zip(os.scandir(directory), range(SHOWN))}
    inner = [
        directory / name
        for name, is_folder in sorted(names.items())
        if is_folder and (is_coco(directory / name) if pose else is_imagenet(directory / name))
    ]
    if inner:
        return f"give DATASET={inner[0]}"
    if (is_imagenet if pose else is_coco)(directory):
        kind = "classification" if pose else "pose"
        return f"this is the layout for {kind} models: give MODEL=<a {kind} model>"
    if any(name.lower().endswith(IMAGES) for name in names):
        return f"for images without labels: make predict IMAGES={directory}"
    if not pose and any(names.values()):
        return "if its directories are classes, move them into val/"
    return "give DATASET=<the data set's directory>"


def is_coco(directory: Path) -> bool:
    return (directory / "annotations").is_dir() and (directory / "images").is_dir()


def is_imagenet(directory: Path) -> bool:
    return (directory / "val").is_dir() or any((directory / name).is_file() for name in LISTS)
