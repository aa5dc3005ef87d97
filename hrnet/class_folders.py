"""The class directories of a data set, train/<class>/* or val/<class>/*: which ones count, and each class index."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, first_few
from hrnet.io.files import IMAGES, AnyPath, natural_key

WHOLE = re.compile(r"[0-9]{1,9}")
WNID = re.compile(r"n[0-9]{8}")  # WordNet IDs: the class directories of ImageNet
LISTED = 10  # names in an error about files or directories that the user must fix one by one


def find_class_folders(place: Path) -> tuple[list[str], list[str]]:
    """The directories in `place` with images, and the other ones (no images, or a broken link); both in text order."""
    names: list[str] = []
    empty_folders: list[str] = []
    for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
        if entry.name[0] == ".":
            continue
        if entry.is_dir():
            (names if _holds_image(entry.path) else empty_folders).append(entry.name)
        elif not entry.is_file() and not entry.name.lower().endswith(IMAGES):
            empty_folders.append(entry.name)
    return names, empty_folders


def _holds_image(folder: str) -> bool:
    odd = []
    for entry in os.scandir(folder):
        if entry.name[0] != "." and not entry.is_dir():
            if entry.name.lower().endswith(IMAGES):
                return True
            odd.append(entry.path)
    return any(map(is_image, odd))


def is_image(path: AnyPath) -> bool:
    """Whether Pillow recognises the file as an image."""
    from PIL import Image  # imported here: make doctor must work without Pillow

    try:
        with Image.open(path):
            return True
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError):
        return False


def class_indices(names: list[str], place: Path) -> dict[str, int]:
    """Class directory -> index: the position in numeric order if all names are integers, else in text order."""
    if all(map(WHOLE.fullmatch, names)):
        names = sorted(names, key=int)
        twice = [f"{a} and {b}" for a, b in zip(names, names[1:]) if int(a) == int(b)]
        if twice:
            raise UserError("class directories with equal numbers", where=place, found=first_few(twice))
    return {name: index for index, name in enumerate(names)}


def training_classes(root: Path) -> dict[str, int]:
    """Class directory in train/ -> index; empty if there are none."""
    place = root / "train"
    return class_indices(find_class_folders(place)[0], place) if place.is_dir() else {}


def classes_differ(root: Path, training: Iterable[str], validation: Iterable[str]) -> UserError:
    only_in = {**dict.fromkeys(training, "train/"), **dict.fromkeys(validation, "val/")}
    for name in set(training) & set(validation):
        del only_in[name]
    found = first_few((f"{name} only in {only_in[name]}" for name in sorted(only_in, key=natural_key)), LISTED)
    what, hint = "train/ and val/ have different class directories", "rename or remove directories"
    return UserError(what, where=root, found=found, hint=hint)


def subset_indices(names: list[str], classes: int, root: Path, split: str) -> Optional[dict[str, int]]:
    """Class directory -> index if val/ has too few directories but their indices are certain: either the
    names are class indices, or train/ has a directory for each class, including all those in val/. Else None."""
    if split == "val" and len(names) < classes:
        if are_indices(names, classes):
            return {name: int(name) for name in sorted(names, key=int)}
        training = training_classes(root)
        if len(training) == classes and set(names) < set(training):
            return {name: index for name, index in training.items() if name in set(names)}
    return None


def are_indices(names: list[str], classes: int) -> bool:
    """Whether the names are class indices: integers below `classes`, the lowest is 0."""
    whole = all(map(WHOLE.fullmatch, names))
    return whole and min(map(int, names)) == 0 and max(map(int, names)) < classes


def names_of(labelled: Iterable[tuple[str, int]], classes: int) -> list[str]:
    """The names of `classes` classes, from images `val/<class>/<file>` and their labels; `class 3` for a class without
    images. Empty if the images are not in class directories, or if the directories are named by the indices."""
    found: dict[int, str] = {}
    for source, label in labelled:
        parts = source.split("/")
        if len(parts) < 3 or found.setdefault(label, parts[1]) != parts[1]:
            return []
    if len(set(found.values())) < len(found) or all(name == str(label) for label, name in found.items()):
        return []
    return [found.get(label, f"class {label}") for label in range(classes)]


def _subset_hint(root: Path, split: str, names: list[str], classes: int) -> str:
    """How to write val_list.txt for a subset of the classes. The position of a directory in the subset is not its
    class index, so a list of all classes is needed."""
    if split != "val":
        return f"training needs images of all {classes} classes"
    wnids = all(map(WNID.fullmatch, names))
    separator, file = ("[ /]", "LOC_synset_mapping.txt") if wnids else ("/", "classes.txt")
    source = "in the order of the class indices" + ("; Kaggle's ImageNet has this file" if wnids else "")
    place = shlex.quote(os.fspath(root))
    find = f"(cd {place} && find val -mindepth 2 -type f -not -name '.*')"
    program = "NR == FNR {index_of[$1] = NR - 1; next} {print $0, index_of[$2]}"
    command = f"{find} | awk -F'{separator}' '{program}' {file} - > {place}/val_list.txt"
    needed = f"{file} (the names of all {classes} class directories, one per line, {source})"
    return f"for a subset, get {needed}, then write val_list.txt with: {command}"


def wrong_class_count(place: Path, names: list[str], empty_folders: list[str], classes: int) -> UserError:
    """The error for too many or too few class directories. It lists first the directories that do not look like
    classes."""
    shapes = {name: re.sub("[A-Za-z]+", "a", re.sub("[0-9]+", "9", name)) for name in names}
    shape, number = Counter(shapes.values()).most_common(1)[0]
    odd = [name for name in names if shapes[name] != shape] if number > len(names) / 2 else []
    parts = [f"{len(empty_folders)} without images: {first_few(empty_folders)}"] if empty_folders else []
    parts += [f"{len(odd)} with unusual names: {first_few(odd)}"] if odd else []
    parts.append(f"{len(names)} with images: {first_few(names)}")
    expected = f"{classes}, since MODEL.NUM_CLASSES is {classes}"
    hint = "remove directories that are not classes, or give another CFG"
    if len(names) < classes:
        hint = f"{hint}; {_subset_hint(place.parent, place.name, sorted({*names} - {*odd}), classes)}"
    return UserError(
        "wrong number of class directories", where=place, expected=expected, found="; ".join(parts), hint=hint
    )
