"""Which images calibrate an int8 model, and how many of them are evaluated too.

The images are those whose names have the smallest hashes. So they are the same on every machine, for any order of the
images, and not all of one class, as the first images may be. A compiled model's record lists the hashes, so that the
evaluation can count how many of its images also calibrated the model. Images in train/ need no labels.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hrnet.class_folders import is_image
from hrnet.io.files import natural_key

IMAGES = "int8.calibration_images"  # key in the metadata of a compiled model: the hashes, separated by spaces
DIGITS = 12  # hex digits of a hash
TRAIN = "train"  # directory in a data set


def name_hash(source: str) -> str:
    """The hash of an image's path in its data set."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]


def choose(sources: Iterable[str], count: int) -> set[str]:
    """The `count` images with the smallest hashes, or all if there are fewer."""
    return set(heapq.nsmallest(count, sources, key=_rank))


def choose_training_images(root: Path, count: int) -> list[str]:
    """The `count` images below train/ with the smallest hashes, as paths relative to `root` in natural order, or all if
    there are fewer. Directories in train/ need not be classes. Files that Pillow does not recognise as images, and
    hidden ones, are skipped."""
    ranked = sorted(_files_below(root, TRAIN), key=_rank)
    images = (name for name in ranked if os.path.isfile(root / name) and is_image(root / name))
    return sorted(itertools.islice(images, count), key=natural_key)


def _rank(source: str) -> tuple[str, str]:
    return name_hash(source), source


def _files_below(root: Path, folder: str) -> Iterator[str]:
    """The paths of all files in `folder`, relative to `root`. Links to directories are followed, except to one that
    contains the link."""
    for place, folders, names in os.walk(root / folder, followlinks=True):
        here = os.path.join(os.path.realpath(place), "")
        inside = (name for name in folders if not here.startswith(os.path.realpath(os.path.join(place, name)) + os.sep))
        folders[:] = [name for name in inside if name[0] != "."]
        relative = os.path.relpath(place, root)
        yield from (os.path.join(relative, name) for name in names if name[0] != ".")


def count_calibrated(metadata: Mapping[str, str], sources: Iterable[str]) -> int:
    """How many of the evaluated images also calibrated the model with this metadata; 0 if it is not int8."""
    hashes = set(metadata.get(IMAGES, "").split())
    return sum(name_hash(source) in hashes for source in sources) if hashes else 0
