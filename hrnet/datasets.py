"""The layouts in which a data set is found, read as one list of images.

ImageNet, with labels:
val/*.JPEG + val_label.txt   the model zoo's: `name index` lines
val_list.txt (+ any folders) PaddleClas': `path index` lines, paths relative to the dataset's folder
val/<class>/*                torchvision's ImageFolder: the sorted class folders are the indices
train/<class>/*              the same, to train on
COCO:
annotations/person_keypoints_<split>.json + images/<split>/*   as upstream's HigherHRNet reads it
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrnet.cli import UserError, first_few
from hrnet.io.coco import CocoImage, annotation_path, read_images
from hrnet.io.files import AnyPath, natural_key
from hrnet.io.records import FormatError

COCO_LAYOUT = "annotations/person_keypoints_<split>.json with images/<split>/*"
LAYOUTS = "val/*.JPEG with val_label.txt, val/<class>/*, or val_list.txt"

WHOLE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Dataset:
    """The images of a folder, in natural order of their paths."""

    root: Path
    labels: dict[str, int]  # path relative to root -> class index
    unlabelled: list[str]  # files that stand among the images but have no label
    absent: list[str]  # labels without an image: the folder holds a subset
    index: Path  # the file or folder that says what the labels are
    class_folders: int = 0  # how many there are, in the layout that counts them

    def sha256(self) -> str:
        """Hash of all paths, labels, sizes and times: another image or label makes other inputs."""
        return _sha256_of_files(self.root, self.labels)


@dataclass(frozen=True)
class CocoSet:
    """The images of a COCO folder that its annotation file lists, in natural order of their names."""

    root: Path
    images: dict[str, CocoImage]  # path relative to root -> what the annotation file says of it
    unlisted: list[str]  # files among the images that the annotation file does not list
    absent: list[str]  # listed images that are not there: the folder holds a subset
    index: Path  # the annotation file

    def sha256(self) -> str:
        """Hash of all paths and times, and of what the annotation file says of each image."""
        facts = {source: f"{image.image_id} {image.width} {image.height}" for source, image in self.images.items()}
        return _sha256_of_files(self.root, facts)


def _sha256_of_files(root: Path, facts: Mapping[str, object]) -> str:
    digest = hashlib.sha256()
    for source, fact in facts.items():
        status = (root / source).stat()
        digest.update(os.fsencode(f"{source} {fact} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()


def find_images(folder: Path) -> Dataset:
    """Find the images and labels below `folder`, or below its parent when `folder` is the `val` of the model zoo's
    call.

    Raises UserError when the folder has none of the layouts, or a list names no image that is there.
    """
    if not folder.is_dir():
        raise UserError("no such dataset folder", where=folder, expected=LAYOUTS, hint="give DATASET=<folder>")
    root = folder.parent if folder.name == "val" and not (folder / "val").is_dir() else folder
    if (root / "val_label.txt").is_file():
        return _listed(root, root / "val_label.txt", prefix="val/")
    if (root / "val_list.txt").is_file():
        return _listed(root, root / "val_list.txt", prefix="")
    if (root / "val").is_dir():
        return _class_folders(root, "val")
    raise UserError("is no ImageNet folder", where=folder, expected=LAYOUTS)


def find_training_images(root: Path) -> Dataset:
    """Find the images of train/<class>/ below `root`. Raises UserError when there are none."""
    if not (root / "train").is_dir():
        what = "holds no folder to train on" if root.is_dir() else "no such dataset folder"
        raise UserError(what, where=root, expected="train/<class>/* in it")
    return _class_folders(root, "train")


def find_coco(root: Path, split: str) -> CocoSet:
    """Find the images of a split (val2017) below a COCO folder. Raises UserError when the folder is none, or holds none
    of the images that its annotation file lists."""
    if not root.is_dir():
        raise UserError("no such dataset folder", where=root, expected=COCO_LAYOUT, hint="give DATASET=<folder>")
    index, folder = annotation_path(root, split), root / "images" / split
    listed = read_images(index)
    if not folder.is_dir():
        raise UserError("no such folder of images", where=folder, expected=COCO_LAYOUT, hint="give DATASET=<folder>")
    there = set(_names(folder))
    images = {f"images/{split}/{image.file_name}": image for image in listed if image.file_name in there}
    if not images:
        found = f"none of its {len(listed)} in {folder}"
        expected = first_few(image.file_name for image in listed)
        raise UserError("lists no image that is there", where=index, expected=expected, found=found)
    unlisted = sorted(there - {image.file_name for image in listed}, key=natural_key)
    return CocoSet(root, images, unlisted, [image.file_name for image in listed if image.file_name not in there], index)


def _listed(root: Path, index: Path, prefix: str) -> Dataset:
    listed = {prefix + name: label for name, label in read_labels(index).items()}
    folders = sorted({os.path.dirname(name) for name in listed})
    there = {os.path.join(name, file) for name in folders if (root / name).is_dir() for file in _names(root / name)}
    labels = {name: listed[name] for name in sorted(listed, key=natural_key) if name in there}
    if not labels:
        found = f"none of its {len(listed)} in {root / folders[0]}"
        raise UserError("lists no image that is there", where=index, expected=first_few(listed), found=found)
    absent = sorted(set(listed) - there, key=natural_key)
    unlabelled = sorted(there - set(listed) - {index.name}, key=natural_key)
    return Dataset(root, labels, [name for name in unlabelled if (root / name).is_file()], absent, index)


def _class_folders(root: Path, split: str) -> Dataset:
    place = root / split
    folders = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and entry.name[0] != ".")
    if not folders:
        flat = "images that lie flat in val/ need val_label.txt beside it, lines `name.JPEG index`"
        hint = flat if split == "val" else "the images of a class lie in a folder of its own"
        raise UserError("holds no class folder", where=place, hint=hint)
    pairs = [(f"{split}/{name}/{file}", label) for label, name in enumerate(folders) for file in _names(place / name)]
    if not pairs:
        raise UserError("class folders hold no file", where=place)
    pairs.sort(key=lambda pair: natural_key(pair[0]))
    beside = sorted((f"{split}/{name}" for name in _names(place) if name not in folders), key=natural_key)
    return Dataset(root, dict(pairs), beside, [], place, len(folders))


def _names(folder: Path) -> list[str]:
    """What is not hidden; a folder among the images too, so that it is rejected and not passed over."""
    return [entry.name for entry in os.scandir(folder) if entry.name[0] != "." and (entry.is_file() or entry.is_dir())]


def read_labels(path: AnyPath) -> dict[str, int]:
    """Read `name index` lines (val_label.txt, val_list.txt) as a mapping from name to class index."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Windows' editors put a mark in front
    except UnicodeDecodeError:
        raise FormatError("not UTF-8 text", where=path) from None
    labels: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, _, index = line.strip().rpartition(" ")
        name = name.strip()
        if not name or not WHOLE.fullmatch(index):
            raise FormatError(f"line {number}", where=path, expected="name index", found=repr(line[:80]))
        if name in labels:
            raise FormatError(f"line {number}: a second label for {name}", where=path)
        labels[name] = int(index)
    if not labels:
        raise FormatError("holds no label", where=path, expected="lines `name index`")
    return labels
