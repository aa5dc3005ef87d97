"""What a prep folder holds: its images, each with the file that stands for it and what evaluation needs of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Optional

from hrnet.cli import UserError, first_few
from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError, from_json, read_record, record_text, to_json, write_record


@dataclass(frozen=True)
class InputImage:
    """One image of a manifest: where it came from and the file that stands for it."""

    stem: str
    source: str  # relative to the dataset's folder
    label: Optional[int]  # index of the class; None for COCO
    width: int  # of the source image, pixels
    height: int
    shape: list[int]  # of the input tensor, without the batch axis
    image_id: Optional[int] = None  # COCO's; None for ImageNet, and so are the next two
    center: Optional[list[float]] = None  # where the input's middle lies in the source image, pixels
    scale: Optional[list[float]] = None  # width and height of what the input shows of it, in units of 200 pixels

    def sides(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        height, width = self.shape[1:] if self.shape[0] == 3 else self.shape[:2]
        return height, width


@dataclass(frozen=True)
class Manifest:
    """What a prep folder holds; written last, so that its presence means that the folder is whole."""

    dataset: str
    config_sha256: str
    index_sha256: str  # of the paths, labels, sizes and times of all images
    dtype: str
    layout: str
    suffix: str  # of the input files: bin or npy
    classes: int
    rejected: int
    images: list[InputImage] = field(repr=False)
    flipped: bool = False  # the inputs are mirror images

    def labels(self) -> list[int]:
        """The class of each image. Raises UserError for a data set that has none."""
        labels = [image.label for image in self.images if image.label is not None]
        if len(labels) != len(self.images):
            raise UserError(f"a manifest of {self.dataset} has no labels", hint="give that of a classification set")
        return labels

    def sha256(self) -> str:
        """The hash of the file that `write` writes."""
        return hashlib.sha256(record_text("manifest", to_json(self)).encode()).hexdigest()

    def mirrored(self) -> Manifest:
        """The manifest of these images' mirror images."""
        return replace(self, flipped=True)

    def write(self, path: AnyPath) -> None:
        write_record(path, "manifest", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> Manifest:
        """Read a manifest: stems are unique, and each image has what its kind of data set needs."""
        content = read_record(path, "manifest", hint="run make preprocess")
        manifest: Manifest = from_json(Manifest, content, path, "manifest")
        if not manifest.images:
            raise FormatError("manifest of no image", where=path, hint="run make preprocess")
        _check_unique("a stem", (image.stem for image in manifest.images), path)
        if manifest.dataset == "imagenet":
            _check_labels(manifest, path)
        elif manifest.dataset == "coco":
            _check_places(manifest, path)
        else:
            raise FormatError("kind of data set", where=path, expected="imagenet or coco", found=manifest.dataset)
        return manifest


def _check_unique(what: str, values: Iterable[object], path: AnyPath) -> None:
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise FormatError(f"{what} stands twice", where=path, found=first_few(twice))


def _check_labels(manifest: Manifest, path: AnyPath) -> None:
    labelled = [(image.source, image.label) for image in manifest.images]
    outside = [f"{name} ({label})" for name, label in labelled if label is None or not 0 <= label < manifest.classes]
    if outside:
        expected = f"0 to {manifest.classes - 1}"
        raise FormatError("label outside the classes", where=path, expected=expected, found=first_few(outside))


def _check_places(manifest: Manifest, path: AnyPath) -> None:
    def placed(image: InputImage) -> bool:
        center, scale = image.center or [], image.scale or []
        return image.image_id is not None and len(center) == len(scale) == 2 and min(scale) > 0

    without = [image.source for image in manifest.images if not placed(image)]
    if without:
        expected = "image_id, two numbers of center and two above 0 of scale"
        raise FormatError("images without their place", where=path, expected=expected, found=first_few(without))
    _check_unique("an image_id", (image.image_id for image in manifest.images), path)
