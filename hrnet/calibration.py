"""Which images calibrate an int8 model, and how many of them are evaluated too.

The images are those whose names have the smallest hashes. So they are the same on every machine, for any order of the
images, and not all of one class, as the first images may be. A compiled model's record lists the hashes, so that the
evaluation can count the images without the record of the calibration.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping

IMAGES = "int8.calibration_images"  # key in the metadata of a compiled model: the hashes, separated by spaces
DIGITS = 12  # hex digits of a hash


def name_hash(source: str) -> str:
    """The hash of an image's path in its data set."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]


def choose(sources: Iterable[str], count: int) -> set[str]:
    """The `count` images with the smallest hashes, or all if there are fewer."""
    return set(heapq.nsmallest(count, sources, key=lambda source: (name_hash(source), source)))


def count_calibrated(metadata: Mapping[str, str], sources: Iterable[str]) -> int:
    """How many of the evaluated images also calibrated the model with this metadata; 0 if it is not int8."""
    hashes = set(metadata.get(IMAGES, "").split())
    return sum(name_hash(source) in hashes for source in sources) if hashes else 0
