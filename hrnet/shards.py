"""Divide the list of a data set's images, in natural order, into contiguous parts. Parts are numbered from 1.

Each part is preprocessed, inferred and evaluated separately; `postprocess.merge` combines the results. Sizes of
parts differ by at most one image. If there are at least as many tar files as parts, a part consists of whole tar files,
and sizes differ by at most one file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from hrnet.cli import UserError

Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `count` parts."""

    number: int
    count: int

    @property
    def name(self) -> str:
        """As in file names, such as `3-of-16`."""
        return f"{self.number}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def bounds(self, total: int) -> tuple[int, int]:
        """The slice of this part in a list of `total` images: first index, and last index + 1."""
        return (self.number - 1) * total // self.count, self.number * total // self.count


def shard(text: str) -> Shard:
    """An argparse type: `3/16`."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,6})", text)
    if not match or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"expected PART/PARTS, such as 3/16, found {text!r}")
    return Shard(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class Listing:
    """Length and hash of the whole image list."""

    images: int
    sha256: str  # of paths and labels (COCO: ids and sizes), but not times, which differ between copies of a data set


class ListHash:
    """A hash of (path, label) pairs, in order, which are added one by one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, source: str, fact: object) -> None:
        self._digest.update(os.fsencode(f"{source}\t{fact}\n"))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def list_sha256(facts: Iterable[tuple[str, object]]) -> str:
    """The ListHash of these pairs."""
    digest = ListHash()
    for source, fact in facts:
        digest.add(source, fact)
    return digest.hexdigest()


def select_part(
    images: Mapping[str, Fact], part: Shard, limit: int, ends: Sequence[int], where: object
) -> tuple[dict[str, Fact], Listing]:
    """The images of `part`, and the listing of the whole list.

    `images`: path -> label (classification) or id and size (COCO), in order; `limit`: use only the first `limit` images
    (0: all); `ends`: number of images up to the end of each tar file, empty for image files. If there are more parts
    than tar files, tar files are divided too. Raises UserError if there are more parts than images.
    """
    whole = list(islice(images.items(), limit or None))
    if part.count > len(whole):
        raise UserError("more parts than images", where=where, expected=f"SHARDS={len(whole)} or less", found=part)
    borders: Sequence[int] = sorted({end for end in ends if 0 < end < len(whole)} | {len(whole)})
    if part.count > len(borders):
        borders = range(1, len(whole) + 1)
    first, last = part.bounds(len(borders))
    start = borders[first - 1] if first else 0
    return dict(whole[start : borders[last - 1]]), Listing(len(whole), list_sha256(whole))
