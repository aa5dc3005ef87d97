"""Find the images and labels of a data set in one of these layouts.

ImageNet, with labels:
val/*.JPEG + val_label.txt   model zoo: `name index` lines
val_list.txt                 PaddleClas: `path index` lines, paths relative to the data set's directory
val/<class>/*                torchvision's ImageFolder: the class index is the position of the class directory in text
                             order, or in numeric order if all names are integers. If val/ has only some of the classes,
                             the index is the name itself if it is an integer, else the position in train/
train/<class>/*              the same, for training; a directory for each class is required
*.tar, val/*.tar             WebDataset (hrnet/tars.py); DATASET may also be a text file that lists tar files
COCO:
annotations/person_keypoints_<split>.json + images/<split>/*   as in upstream's HigherHRNet

Hidden files (names that begin with a dot) are ignored. Other files that are not images of the data set are reported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hrnet.class_folders import (
    are_indices,
    class_indices,
    classes_differ,
    find_class_folders,
    is_image,
    subset_indices,
    training_classes,
    wrong_class_count,
)
from hrnet.cli import UserError, cores, first_few, plural
from hrnet.io.coco import Annotations, CocoImage, annotation_path, read_annotations
from hrnet.io.files import IMAGES, AnyPath, natural_key
from hrnet.label_files import read_labels
from hrnet.layouts import COCO_LAYOUT, check_coco, check_imagenet, root_of
from hrnet.tar_files import LISTS, find_tars
from hrnet.tars import Member, Source, read_tar
from hrnet.workers import map_files

OTHER_CLASSES = "fix the labels, or give CFG=<a config with the classes of this data set>"


@dataclass(frozen=True)
class Dataset:
    """Labelled images, in natural order of their paths; images in tar files keep the order of the tar file."""

    root: Path
    labels: dict[str, int]  # path relative to root -> class index
    unlabelled: list[str]  # files without a label beside the labelled images
    absent: list[str]  # labelled images that are missing: the directory is a subset
    index: Path  # the file or directory that defines the labels
    broken: dict[str, str] = field(default_factory=dict)  # labelled, but a broken link or not a file -> why
    classes: dict[str, int] = field(default_factory=dict)  # class directory -> index; empty in other layouts
    empty_folders: list[str] = field(default_factory=list)  # directories without images, and broken links
    class_count: int = 0  # of the model
    members: dict[str, Member] = field(default_factory=dict)  # path -> position in a tar file; empty for image files
    ends: tuple[int, ...] = ()  # number of images up to the end of each tar file

    def find(self, source: str) -> Source:
        """The file or tar member of an image."""
        return self.members.get(source) or self.root / source

    def sha256(self) -> str:
        """Hash of all paths, labels, file sizes and modification times."""
        return _sha256_of_members(self.members, self.labels) if self.ends else files_sha256(self.root, self.labels)

    def lists(self) -> list[Path]:
        """The files that define which images are used, also those that do not exist yet."""
        return [*(self.root / name for name in LISTS), *([self.root, self.index] if self.ends else [])]

    def notes(self) -> list[str]:
        """Messages about missing images, unused directories, and an order of classes that may surprise."""
        notes = []
        if self.absent:
            count = plural(len(self.absent), "label has", "labels have")
            notes.append(f"{count} no image: {first_few(self.absent)}; only images that exist are used")
        if self.empty_folders:
            count = plural(len(self.empty_folders), "directory without images is", "directories without images are")
            notes.append(f"{count} ignored: {first_few(self.empty_folders)}")
        if self.classes and len(self.classes) < self.class_count:
            notes.append(f"{len(self.classes)} of {self.class_count} classes have a directory (a subset)")
        order = sorted(self.classes, key=lambda name: self.classes[name])
        for one, other in zip(order, order[1:]):
            if natural_key(one) > natural_key(other):
                before = f"{one} is class {self.classes[one]}, before {other}"
                notes.append(f"the class directories are in alphabetical order: {before}")
                break
        return notes

    def check_class_names(self, names: Sequence[str]) -> None:
        """Raise UserError if `names` (the value of INPUT.CLASS_NAMES) contains the name of a class directory, but not
        at the directory's index: then either the labels or the names are wrong. Other names of directories, such as
        n01440764, are accepted."""
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(names):
            positions.setdefault(name, []).append(position)
        for folder, index in self.classes.items():
            places = positions.get(folder)
            if places and index not in places:
                expected = f"class {places[0]}, its position in INPUT.CLASS_NAMES"
                hint = "put the names in the order of the directories, or rename each directory to its class index"
                where = self.root / "val" / folder
                raise UserError(
                    "the index of this class directory differs from INPUT.CLASS_NAMES",
                    where=where,
                    expected=expected,
                    found=index,
                    hint=hint,
                )

    def not_images(self) -> dict[str, str]:
        """Labelled files that are not images -> why. Only files without an image extension are opened."""
        odd = (source for source in self.labels if not source.lower().endswith(IMAGES))
        others = {source: "not an image" for source in odd if not is_image(self.root / source)}
        return {**self.broken, **others}


@dataclass(frozen=True)
class CocoSet:
    """The images of a COCO directory that its annotation file lists, in natural order of their names."""

    root: Path
    images: dict[str, CocoImage]  # path relative to root -> its entry in the annotation file
    unlisted: list[str]  # files in the image directory that the annotation file does not list
    absent: list[str]  # listed images that are missing: the directory is a subset
    index: Path  # the annotation file
    broken: dict[str, str]  # listed, but a broken link or not a file -> why
    annotations: Annotations

    def lists(self) -> list[Path]:
        """The file that defines which images are used."""
        return [self.index]

    def sha256(self) -> str:
        """Hash of all paths, file sizes and modification times, and of ids and sizes in the annotation file."""
        facts = {source: f"{image.image_id} {image.width} {image.height}" for source, image in self.images.items()}
        return files_sha256(self.root, facts)


def files_sha256(root: AnyPath, facts: Mapping[str, object]) -> str:
    """Hash of paths relative to `root` (empty: the working directory), their facts, sizes and modification times."""
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
    """Find the images and labels of a data set for a model with `classes` classes. `folder`: the data set's directory,
    its `val` (as in the model zoo's commands), a tar file, or a text file that lists tar files.

    Raises UserError if the directory has none of the layouts, no listed image exists, or the labels do not fit the
    number of classes.
    """
    place, tars = find_tars(folder)
    if tars:
        return _read_tar_dataset(place, tars, folder, classes)
    check_imagenet(folder)
    root = root_of(folder)
    for name in LISTS:
        if (root / name).is_file():
            return _read_listed_dataset(root, root / name, classes)
    return _read_class_folders(root, "val", classes)


def find_training_images(root: Path, classes: int) -> Dataset:
    """Find the images train/<class>/* below `root` for a model with `classes` classes. Raises UserError if there are
    none, or if there are more or fewer class directories."""
    if not (root / "train").is_dir():
        what = "no train directory" if root.is_dir() else "no such data set directory"
        raise UserError(what, where=root, expected="train/<class>/*")
    return _read_class_folders(root, "train", classes)


def check_classes_agree(root: Path, validation: Dataset) -> None:
    """Raise UserError if the class directories of train/ give other class indices than the labels of val/."""
    training = training_classes(root)
    if validation.classes and training and set(training) != set(validation.classes):
        raise classes_differ(root, training, validation.classes)
    labels = ((source, os.path.basename(os.path.dirname(source)), label) for source, label in validation.labels.items())
    others = [(source, name, label) for source, name, label in labels if training.get(name, label) != label]
    if others:
        what = "labels differ from the order of the class directories in train/"
        found = first_few(f"{source} is {label}, train/{name} is {training[name]}" for source, name, label in others)
        raise UserError(what, where=validation.index, found=found)


def find_coco(root: Path, split: str, segmentations: bool = False) -> CocoSet:
    """Find the images of a split (such as val2017) in a COCO directory. `segmentations`: see `read_annotations`. Raises
    UserError if the directory is missing, or none of the images in the annotation file exists."""
    if not root.is_dir():
        raise UserError("no such data set directory", where=root, expected=COCO_LAYOUT, hint="give DATASET=<directory>")
    check_coco(root, split)
    index, folder = annotation_path(root, split), root / "images" / split
    annotations = read_annotations(index, segmentations)
    listed = annotations.images
    present, others = _list_files_in(folder, {os.path.dirname(image.file_name) for image in listed})
    images = {f"images/{split}/{image.file_name}": image for image in listed if image.file_name in present}
    broken = {image.file_name: others[image.file_name] for image in listed if image.file_name in others}
    if not images:
        found = f"none of its {len(listed)} in {folder}"
        expected = first_few(image.file_name for image in listed)
        hint = "copy the images there, or give DATASET=<directory with these images>"
        raise UserError("none of the listed images exists", where=index, expected=expected, found=found, hint=hint)
    unlisted = sorted(present - {image.file_name for image in listed}, key=natural_key)
    absent = [image.file_name for image in listed if image.file_name not in present and image.file_name not in broken]
    return CocoSet(root, images, unlisted, absent, index, broken, annotations)


def _read_tar_dataset(root: Path, tars: list[str], index: Path, classes: int) -> Dataset:
    labels: dict[str, int] = {}
    members: dict[str, Member] = {}
    unlabelled: list[str] = []
    ends: list[int] = []
    workers = min(cores(), len(tars))
    scanned = map_files(read_tar, [root / tar for tar in tars], workers, at_once=1, unit="tar") if workers > 1 else None
    for number, tar in enumerate(tars):
        found = scanned[number] if scanned else read_tar(root / tar)
        for name, member in found.images.items():
            source, label = f"{tar}/{name}", found.labels.get(name)
            if label is None:
                unlabelled.append(source)
            else:
                labels[source], members[source] = label, member
        ends.append(len(labels))
    _check_labels(labels, index, classes)
    if not labels:
        hint = "add labels, or unpack the images into val/ and write val_label.txt beside it"
        expected = "key.cls or key.json for each image"
        raise UserError("images without labels", where=index, expected=expected, found=first_few(unlabelled), hint=hint)
    return Dataset(root, labels, unlabelled, [], index, members=members, ends=tuple(ends))


def _check_labels(labels: Mapping[str, int], index: Path, classes: int) -> None:
    outside = [f"{source} ({label})" for source, label in labels.items() if label >= classes]
    if outside:
        expected = f"0 to {classes - 1}, since MODEL.NUM_CLASSES is {classes}"
        from_one = min(labels.values()) == 1 and max(labels.values()) == classes
        hint = "the labels start at 1: subtract 1 from each" if from_one else OTHER_CLASSES
        raise UserError(
            "label outside the classes", where=index, expected=expected, found=first_few(outside), hint=hint
        )


def _read_listed_dataset(root: Path, index: Path, classes: int) -> Dataset:
    listed = read_labels(index, root)
    _check_labels(listed, index, classes)
    folders = sorted({name.rpartition("/")[0] for name in listed})
    present, broken = _list_files_in(root, folders)
    labels = {name: listed[name] for name in sorted(listed, key=natural_key) if name in present}
    if not labels:
        expected, found = first_few(listed), f"none of its {len(listed)} in {root / folders[0]}"
        hint = "the label list of another data set? remove it if the images are in val/<class>/"
        raise UserError("none of the listed images exists", where=index, expected=expected, found=found, hint=hint)
    reasons = {name: broken[name] for name in listed if name in broken}
    absent = sorted((name for name in listed if name not in present and name not in broken), key=natural_key)
    unlabelled = sorted((name for name in present if name not in listed and name != index.name), key=natural_key)
    return Dataset(root, labels, unlabelled, absent, index, reasons)


def _read_class_folders(root: Path, split: str, classes: int) -> Dataset:
    place = root / split
    names, empty_folders = find_class_folders(place)
    if not names and not empty_folders:
        flat = "if the images are directly in val/, write val_label.txt beside it, lines `name.JPEG index`"
        hint = flat if split == "val" else "put the images of each class into one directory"
        raise UserError("no class directories", where=place, hint=hint)
    if not names:
        raise UserError("no images in the class directories", where=place, found=first_few(empty_folders))
    indices = class_indices(names, place)
    if len(names) != classes:
        indices = subset_indices(names, classes, root, split) or {}
        if not indices:
            raise wrong_class_count(place, names, empty_folders, classes)
    elif split == "val" and not are_indices(names, classes):
        training = set(training_classes(root))
        if not (training <= set(names) or set(names) <= training):
            raise classes_differ(root, training, names)
    pairs: list[tuple[str, int]] = []
    broken: dict[str, str] = {}
    for name, label in indices.items():
        files, reasons = _list_files(place / name)
        pairs += [(f"{split}/{name}/{file}", label) for file in files]
        broken.update({f"{split}/{name}/{file}": reason for file, reason in reasons.items()})
    pairs.sort(key=lambda pair: natural_key(pair[0]))
    if not pairs:
        raise UserError(
            "no images in the class directories", where=place, found=first_few(map(": ".join, broken.items()))
        )
    beside, links = _list_files(place)
    known = {*names, *empty_folders}
    beside += [name for name in links if name not in known]
    unlabelled = sorted((f"{split}/{name}" for name in beside), key=natural_key)
    return Dataset(root, dict(pairs), unlabelled, [], place, broken, indices, empty_folders, classes)


def _list_files_in(root: Path, folders: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """The files in `folders`, and their other entries -> what they are; all paths relative to `root`."""
    files: set[str] = set()
    broken: dict[str, str] = {}
    for folder in folders:
        if (root / folder).is_dir():
            names, reasons = _list_files(root / folder)
            files.update(os.path.join(folder, name) for name in names)
            broken.update({os.path.join(folder, name): reason for name, reason in reasons.items()})
    return files, broken


def _list_files(folder: AnyPath) -> tuple[list[str], dict[str, str]]:
    """The names of the files in a directory, and its other entries (broken links, directories, devices) -> what they
    are; without hidden ones."""
    files: list[str] = []
    others: dict[str, str] = {}
    for entry in os.scandir(folder):
        if entry.name[0] == ".":
            continue
        if entry.is_file():
            files.append(entry.name)
        elif entry.is_dir():
            others[entry.name] = "a directory"
        else:
            others[entry.name] = "a broken link" if entry.is_symlink() else "not a file"
    return files, others
