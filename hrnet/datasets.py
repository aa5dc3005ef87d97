"""The layouts in which a data set is found, read as one list of images.

ImageNet, with labels:
val/*.JPEG + val_label.txt   the model zoo's: `name index` lines
val_list.txt (+ any folders) PaddleClas': `path index` lines, paths relative to the dataset's folder
val/<class>/*                torchvision's ImageFolder: the sorted class folders are the indices, sorted by value where
                             all their names are whole numbers
train/<class>/*              the same, to train on
*.tar, val/*.tar             WebDataset's: hrnet/tars.py; also a list of tar files
COCO:
annotations/person_keypoints_<split>.json + images/<split>/*   as upstream's HigherHRNet reads it

Files whose names begin with a dot are ignored. Everything else that is not an image of the data set is listed.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, cores, first_few
from hrnet.io.coco import Annotations, CocoImage, annotation_path, read_annotations
from hrnet.io.files import IMAGES, AnyPath, below, natural_key
from hrnet.io.records import FormatError
from hrnet.tars import LISTS, Member, Source, find_tars, read_tar
from hrnet.workers import map_files

COCO_LAYOUT = "annotations/person_keypoints_<split>.json with images/<split>/*"
LAYOUTS = "val/*.JPEG with val_label.txt, val/<class>/*, val_list.txt, or *.tar"

WHOLE = re.compile(r"[0-9]{1,9}")
LISTED = 10  # names in an error that asks to fix them all


@dataclass(frozen=True)
class Dataset:
    """The images of a folder, in natural order of their paths; of tar files in the order in which they are there."""

    root: Path
    labels: dict[str, int]  # path relative to root -> class index
    unlabelled: list[str]  # files that stand among the images but have no label
    absent: list[str]  # labels without an image: the folder holds a subset
    index: Path  # the file or folder that says what the labels are
    broken: dict[str, str] = field(default_factory=dict)  # labelled, but a dangling link or no file -> why
    classes: dict[str, int] = field(default_factory=dict)  # class folders -> index, in the layout that has them
    foreign: list[str] = field(default_factory=list)  # folders beside them that hold no image
    of_classes: int = 0  # the model's
    members: dict[str, Member] = field(default_factory=dict)  # path -> its place, where the images are in tar files
    ends: tuple[int, ...] = ()  # how many images there are up to the end of each tar file

    def find(self, source: str) -> Source:
        """Where an image's bytes are."""
        return self.members.get(source) or self.root / source

    def sha256(self) -> str:
        """Hash of all paths, labels, sizes and times: another image or label makes other inputs."""
        return _sha256_of_members(self.members, self.labels) if self.ends else _sha256_of_files(self.root, self.labels)

    def lists(self) -> list[Path]:
        """The files that decide which images there are, also those that are not there."""
        return [*(self.root / name for name in LISTS), *([self.root, self.index] if self.ends else [])]

    def notes(self) -> list[str]:
        """Lines to print: what of the folder is not used, or not there."""
        notes = []
        if self.absent:
            notes.append(f"{len(self.absent)} labels have no image (a subset): {first_few(self.absent)}")
        if self.foreign:
            notes.append(f"{len(self.foreign)} folders without images are left out: {first_few(self.foreign)}")
        if self.classes and len(self.classes) < self.of_classes:
            notes.append(f"folders of {len(self.classes)} of {self.of_classes} classes (a subset)")
        return notes

    def not_images(self) -> dict[str, str]:
        """Labelled files that cannot be images, and why; only those without an image's ending are opened."""
        odd = (source for source in self.labels if not source.lower().endswith(IMAGES))
        others = {source: "not an image" for source in odd if not is_image(self.root / source)}
        return {**self.broken, **others}


@dataclass(frozen=True)
class CocoSet:
    """The images of a COCO folder that its annotation file lists, in natural order of their names."""

    root: Path
    images: dict[str, CocoImage]  # path relative to root -> what the annotation file says of it
    unlisted: list[str]  # files among the images that the annotation file does not list
    absent: list[str]  # listed images that are not there: the folder holds a subset
    index: Path  # the annotation file
    broken: dict[str, str]  # listed names of dangling links, or of what is not a file -> why
    annotations: Annotations

    def lists(self) -> list[Path]:
        """The file that decides which images there are."""
        return [self.index]

    def sha256(self) -> str:
        """Hash of all paths and times, and of what the annotation file says of each image."""
        facts = {source: f"{image.image_id} {image.width} {image.height}" for source, image in self.images.items()}
        return _sha256_of_files(self.root, facts)


def _sha256_of_files(root: Path, facts: Mapping[str, object]) -> str:
    digest = hashlib.sha256()
    folder = os.path.join(root, "")
    for source, fact in facts.items():
        status = os.stat(folder + source)
        digest.update(os.fsencode(f"{source} {fact} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()


def _sha256_of_members(members: Mapping[str, Member], labels: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    times: dict[str, int] = {}
    for source, label in labels.items():
        tar, offset, size = members[source]
        time = times.get(tar) or times.setdefault(tar, os.stat(tar).st_mtime_ns)
        digest.update(os.fsencode(f"{source} {label} {offset} {size} {time}\n"))
    return digest.hexdigest()


def find_images(folder: Path, classes: int) -> Dataset:
    """Find the images and labels below `folder`, or below its parent when `folder` is the `val` of the model zoo's
    call, for a model of so many classes. `folder` may also be a list of tar files.

    Raises UserError when the folder has none of the layouts, a list names no image that is there, or the labels are not
    those of such a model.
    """
    place, tars = find_tars(folder)
    if tars:
        return _in_tars(place, tars, folder, classes)
    if not folder.is_dir():
        raise UserError("no such dataset folder", where=folder, expected=LAYOUTS, hint="give DATASET=<folder>")
    root = folder.parent if folder.name == "val" and not (folder / "val").is_dir() else folder
    for name in LISTS:
        if (root / name).is_file():
            return _listed(root, root / name, classes)
    if (root / "val").is_dir():
        return _class_folders(root, "val", classes)
    raise UserError("is no ImageNet folder", where=folder, expected=LAYOUTS)


def find_training_images(root: Path, classes: int) -> Dataset:
    """Find the images of train/<class>/ below `root`, for a model of so many classes. Raises UserError when there are
    none, or the folders of val/ are not of the same classes."""
    if not (root / "train").is_dir():
        what = "holds no folder to train on" if root.is_dir() else "no such dataset folder"
        raise UserError(what, where=root, expected="train/<class>/* in it")
    return _class_folders(root, "train", classes)


def check_classes_agree(root: Path, validation: Dataset) -> None:
    """Refuse class folders of train/ whose indices are not the labels that the images of val/ have."""
    training = _training_classes(root)
    if validation.classes and training and set(training) != set(validation.classes):
        raise _classes_differ(root, training, validation.classes)
    labels = ((source, os.path.basename(os.path.dirname(source)), label) for source, label in validation.labels.items())
    others = [(source, name, label) for source, name, label in labels if training.get(name, label) != label]
    if others:
        what = "labels differ from the order of the class folders of train/"
        found = first_few(f"{source} is {label}, train/{name} is {training[name]}" for source, name, label in others)
        raise UserError(what, where=validation.index, found=found)


def _training_classes(root: Path) -> dict[str, int]:
    """The class folders of train/ with their indices; empty if there are none."""
    place = root / "train"
    return _by_position(_find_class_folders(place)[0], place) if place.is_dir() else {}


def _classes_differ(root: Path, training: Iterable[str], validation: Iterable[str]) -> UserError:
    alone = {**dict.fromkeys(training, "train/"), **dict.fromkeys(validation, "val/")}
    for name in set(training) & set(validation):
        del alone[name]
    found = first_few((f"{name} only in {alone[name]}" for name in sorted(alone, key=natural_key)), LISTED)
    what, hint = "class folders of train/ and val/ differ", "rename or remove folders"
    return UserError(what, where=root, found=found, hint=hint)


def find_coco(root: Path, split: str, outlines: bool = False) -> CocoSet:
    """Find the images of a split (val2017) below a COCO folder. `outlines`: as of `read_annotations`. Raises UserError
    when the folder is none, or holds none of the images that its annotation file lists."""
    if not root.is_dir():
        raise UserError("no such dataset folder", where=root, expected=COCO_LAYOUT, hint="give DATASET=<folder>")
    index, folder = annotation_path(root, split), root / "images" / split
    annotations = read_annotations(index, outlines)
    listed = annotations.images
    if not folder.is_dir():
        raise UserError("no such folder of images", where=folder, expected=COCO_LAYOUT, hint="give DATASET=<folder>")
    there, others = _names_below(folder, {os.path.dirname(image.file_name) for image in listed})
    images = {f"images/{split}/{image.file_name}": image for image in listed if image.file_name in there}
    broken = {image.file_name: others[image.file_name] for image in listed if image.file_name in others}
    if not images:
        found = f"none of its {len(listed)} in {folder}"
        expected = first_few(image.file_name for image in listed)
        raise UserError("lists no image that is there", where=index, expected=expected, found=found)
    unlisted = sorted(there - {image.file_name for image in listed}, key=natural_key)
    absent = [image.file_name for image in listed if image.file_name not in there and image.file_name not in broken]
    return CocoSet(root, images, unlisted, absent, index, broken, annotations)


def _in_tars(root: Path, tars: list[str], index: Path, classes: int) -> Dataset:
    labels: dict[str, int] = {}
    members: dict[str, Member] = {}
    unlabelled: list[str] = []
    ends: list[int] = []
    workers = min(cores(), len(tars))
    indices = map_files(read_tar, [root / tar for tar in tars], workers, at_once=1, unit="tar") if workers > 1 else None
    for number, tar in enumerate(tars):
        found = indices[number] if indices else read_tar(root / tar)
        for name, member in found.images.items():
            source, label = f"{tar}/{name}", found.labels.get(name)
            if label is None:
                unlabelled.append(source)
            else:
                labels[source], members[source] = label, member
        ends.append(len(labels))
    _check_labels(labels, index, classes)
    if not labels:
        hint = "add them, or unpack the images into val/ with val_label.txt beside it"
        expected = "key.cls or key.json with each"
        raise UserError("images without labels", where=index, expected=expected, found=first_few(unlabelled), hint=hint)
    return Dataset(root, labels, unlabelled, [], index, members=members, ends=tuple(ends))


def _check_labels(labels: Mapping[str, int], index: Path, classes: int) -> None:
    outside = [f"{source} ({label})" for source, label in labels.items() if label >= classes]
    if outside:
        expected = f"0 to {classes - 1}, MODEL.NUM_CLASSES"
        raise UserError("label outside the classes", where=index, expected=expected, found=first_few(outside))


def _listed(root: Path, index: Path, classes: int) -> Dataset:
    listed = read_labels(index, root)
    _check_labels(listed, index, classes)
    folders = sorted({name.rpartition("/")[0] for name in listed})
    there, broken = _names_below(root, folders)
    labels = {name: listed[name] for name in sorted(listed, key=natural_key) if name in there}
    if not labels:
        found = f"none of its {len(listed)} in {root / folders[0]}"
        raise UserError("lists no image that is there", where=index, expected=first_few(listed), found=found)
    faults = {name: broken[name] for name in listed if name in broken}
    absent = sorted((name for name in listed if name not in there and name not in broken), key=natural_key)
    unlabelled = sorted((name for name in there if name not in listed and name != index.name), key=natural_key)
    return Dataset(root, labels, unlabelled, absent, index, faults)


def _class_folders(root: Path, split: str, classes: int) -> Dataset:
    place = root / split
    names, foreign = _find_class_folders(place)
    if not names and not foreign:
        flat = "images that lie flat in val/ need val_label.txt beside it, lines `name.JPEG index`"
        hint = flat if split == "val" else "the images of a class lie in a folder of its own"
        raise UserError("holds no class folder", where=place, hint=hint)
    if not names:
        raise UserError("class folders hold no image", where=place, found=first_few(foreign))
    indices = _by_position(names, place)
    if len(names) != classes:
        indices = _subset_indices(names, classes, root, split) or {}
        if not indices:
            raise _wrong_number(place, names, foreign, classes)
    elif split == "val" and not _are_indices(names, classes):
        training = set(_training_classes(root))
        if not (training <= set(names) or set(names) <= training):
            raise _classes_differ(root, training, names)
    pairs: list[tuple[str, int]] = []
    broken: dict[str, str] = {}
    for name, label in indices.items():
        files, faults = _names(place / name)
        pairs += [(f"{split}/{name}/{file}", label) for file in files]
        broken.update({f"{split}/{name}/{file}": reason for file, reason in faults.items()})
    pairs.sort(key=lambda pair: natural_key(pair[0]))
    if not pairs:
        raise UserError("class folders hold no image", where=place, found=first_few(map(": ".join, broken.items())))
    beside, links = _names(place)
    known = {*names, *foreign}
    beside += [name for name in links if name not in known]
    unlabelled = sorted((f"{split}/{name}" for name in beside), key=natural_key)
    return Dataset(root, dict(pairs), unlabelled, [], place, broken, indices, foreign, classes)


def _find_class_folders(place: Path) -> tuple[list[str], list[str]]:
    """The folders in `place` that hold an image, and those that hold none or are links to nothing; sorted as text."""
    names: list[str] = []
    foreign: list[str] = []
    for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
        if entry.name[0] == ".":
            continue
        if entry.is_dir():
            (names if _holds_image(entry.path) else foreign).append(entry.name)
        elif not entry.is_file() and not entry.name.lower().endswith(IMAGES):
            foreign.append(entry.name)
    return names, foreign


def _holds_image(folder: str) -> bool:
    odd = []
    for entry in os.scandir(folder):
        if entry.name[0] != "." and not entry.is_dir():
            if entry.name.lower().endswith(IMAGES):
                return True
            odd.append(entry.path)
    return any(map(is_image, odd))


def is_image(path: AnyPath) -> bool:
    """Whether Pillow knows the file's format."""
    from PIL import Image  # here, since make doctor reads data sets where it may be missing

    try:
        with Image.open(path):
            return True
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError):
        return False


def _by_position(names: list[str], place: Path) -> dict[str, int]:
    """The class folders with their indices: in the order of their values where all are whole numbers, else as text."""
    if all(map(WHOLE.fullmatch, names)):
        names = sorted(names, key=int)
        twice = [f"{a} and {b}" for a, b in zip(names, names[1:]) if int(a) == int(b)]
        if twice:
            raise UserError("class folders of one number", where=place, found=first_few(twice))
    return {name: index for index, name in enumerate(names)}


def _subset_indices(names: list[str], classes: int, root: Path, split: str) -> Optional[dict[str, int]]:
    """The indices of fewer folders than the model has classes where these leave no doubt: numbers from 0, or names of
    which train/ has all; else None."""
    if split == "val" and len(names) < classes:
        if _are_indices(names, classes):
            return {name: int(name) for name in sorted(names, key=int)}
        training = _training_classes(root)
        if len(training) == classes and set(names) < set(training):
            return {name: index for name, index in training.items() if name in set(names)}
    return None


def _are_indices(names: list[str], classes: int) -> bool:
    """Whether the names are class indices: whole numbers from 0, below the number of classes."""
    whole = all(map(WHOLE.fullmatch, names))
    return whole and min(map(int, names)) == 0 and max(map(int, names)) < classes


def _wrong_number(place: Path, names: list[str], foreign: list[str], classes: int) -> UserError:
    """The error for too many or too few class folders; names those first that look like none."""
    shapes = {name: re.sub("[A-Za-z]+", "a", re.sub("[0-9]+", "9", name)) for name in names}
    shape, number = Counter(shapes.values()).most_common(1)[0]
    odd = [name for name in names if shapes[name] != shape] if number > len(names) / 2 else []
    parts = [f"{len(foreign)} without images: {first_few(foreign)}"] if foreign else []
    parts += [f"{len(odd)} of other names: {first_few(odd)}"] if odd else []
    parts.append(f"{len(names)} with images: {first_few(names)}")
    expected = f"{classes}, MODEL.NUM_CLASSES"
    hint = (
        "remove folders that are not classes, or give another CFG; for a subset write val_list.txt, lines `path index`"
    )
    return UserError("class folders", where=place, expected=expected, found="; ".join(parts), hint=hint)


def _names_below(root: Path, folders: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """The files in `folders` below `root`, as paths relative to `root`, and what else is there with the reason."""
    files: set[str] = set()
    broken: dict[str, str] = {}
    for folder in folders:
        if (root / folder).is_dir():
            names, faults = _names(root / folder)
            files.update(os.path.join(folder, name) for name in names)
            broken.update({os.path.join(folder, name): reason for name, reason in faults.items()})
    return files, broken


def _names(folder: AnyPath) -> tuple[list[str], dict[str, str]]:
    """The names of the files in a folder, and those of links to nothing, folders and devices with what they are; all
    without hidden ones."""
    files: list[str] = []
    others: dict[str, str] = {}
    for entry in os.scandir(folder):
        if entry.name[0] == ".":
            continue
        if entry.is_file():
            files.append(entry.name)
        elif entry.is_dir():
            others[entry.name] = "a folder"
        else:
            others[entry.name] = "a link to nothing" if entry.is_symlink() else "not a file"
    return files, others


def read_labels(path: AnyPath, root: Optional[Path] = None) -> dict[str, int]:
    """Read `name index` lines (val_label.txt, val_list.txt) as a mapping from name to class index; the index is behind
    the last white space.

    With the data set's `root` the names are paths relative to it, also where they have `./` or, in val_label.txt,
    `val/` in front. Raises FormatError with the line.
    """
    data = Path(path).read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise FormatError("not UTF-8 text", where=path)
    data = data.removeprefix(b"\xef\xbb\xbf")  # Windows' editors put a mark in front
    flat = Path(path).name == "val_label.txt"
    folder = root / "val" if root and flat else root
    labels: dict[str, int] = {}
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape"), 1):
        parts = line.rsplit(None, 1)
        if not parts:
            continue
        name, index = (parts[0].strip(), parts[1]) if len(parts) == 2 else ("", parts[0])
        if not name or not WHOLE.fullmatch(index):
            raise FormatError(f"line {number}", where=path, expected="name index", found=repr(line[:80].rstrip("\n")))
        if folder is not None:
            try:
                name = below(folder, name)
            except ValueError as error:
                raise FormatError(f"line {number}: {error}", where=path, found=repr(line[:80].rstrip("\n"))) from None
            if flat and not name.startswith("val/"):
                name = f"val/{name}"
        if name in labels:
            raise FormatError(f"line {number}: a second label for {name}", where=path)
        labels[name] = int(index)
    if not labels:
        raise FormatError("holds no label", where=path, expected="lines `name index`")
    return labels
