"""The manifest of a directory of inputs: for each image, its input file and the values that evaluation needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Optional

from hrnet.cli import UserError, first_few
from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError, check_unique, from_json, read_record, record_text, to_json, write_record
from hrnet.shards import list_sha256


@dataclass(frozen=True)
class InputImage:
    """One image of a manifest: its source file and its input file."""

    stem: str
    source: str  # path relative to the data set; of make predict: absolute, or relative to the working directory
    label: Optional[int]  # class index; None for COCO and images without labels
    width: int  # of the source image, pixels
    height: int
    shape: list[int]  # of the input tensor, without the batch axis
    image_id: Optional[int] = None  # COCO's, or a number from 1; image_id, center and scale are None for classification
    center: Optional[list[float]] = None  # the input's centre in the source image, pixels
    # Width and height of the part of the source image that the input shows, in units of 200 pixels of the source image
    scale: Optional[list[float]] = None

    def sides(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        height, width = self.shape[1:] if self.shape[0] == 3 else self.shape[:2]
        return height, width


@dataclass(frozen=True)
class Manifest:
    """The content of a directory of inputs; written last, so that its presence means that the directory is complete."""

    dataset: str  # "imagenet", "coco", or "images" (no labels; for make predict, or to calibrate a classifier)
    config_sha256: str
    index_sha256: str  # of the paths, labels, sizes and modification times of all images
    dtype: str
    layout: str
    suffix: str  # of the input files: bin or npy
    classes: int
    rejected: int
    images: list[InputImage] = field(repr=False)
    flipped: bool = False  # the inputs are flipped
    shard: Optional[list[int]] = None  # [3, 16]: part 3 of 16; set together with the next two
    listed: Optional[int] = None  # number of images in all parts
    list_sha256: Optional[str] = None  # of the paths and labels (COCO: ids and sizes) in all parts
    available: Optional[int] = None  # number of images in the data set, if this is a subset

    def labels(self) -> list[int]:
        """The class of each image. Raises UserError for a data set without labels."""
        labels = [image.label for image in self.images if image.label is not None]
        if len(labels) != len(self.images):
            raise UserError(
                f"no labels in a manifest of {self.dataset}", hint="give the manifest of a classification data set"
            )
        return labels

    def sha256(self) -> str:
        """The SHA-256 of the file that `write` writes."""
        return hashlib.sha256(record_text("manifest", to_json(self)).encode()).hexdigest()

    def images_sha256(self) -> str:
        """The hash of the image paths with their labels or ids."""
        facts = ((each.source, each.image_id if each.label is None else each.label) for each in self.images)
        return list_sha256(facts)

    def flip(self) -> Manifest:
        """The manifest of the same images with flipped inputs."""
        return replace(self, flipped=True)

    def write(self, path: AnyPath) -> None:
        write_record(path, "manifest", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> Manifest:
        """Read and check a manifest. Raises FormatError for duplicate stems and images with invalid fields."""
        content = read_record(path, "manifest", hint="run make preprocess")
        manifest: Manifest = from_json(Manifest, content, path, "manifest")
        if not manifest.images:
            raise FormatError("no images in the manifest", where=path, hint="run make preprocess")
        check_unique("duplicate stem", (image.stem for image in manifest.images), path)
        if manifest.dataset == "imagenet":
            _check_labels(manifest, path)
        elif manifest.dataset == "coco":
            _check_alignment(manifest, path)
        elif manifest.dataset != "images":
            expected = "imagenet, coco or images"
            raise FormatError("unknown data set", where=path, expected=expected, found=manifest.dataset)
        elif manifest.suffix == "npy":
            _check_alignment(manifest, path)
        return manifest


def _check_labels(manifest: Manifest, path: AnyPath) -> None:
    labelled = [(image.source, image.label) for image in manifest.images]
    outside = [f"{name} ({label})" for name, label in labelled if label is None or not 0 <= label < manifest.classes]
    if outside:
        expected = f"0 to {manifest.classes - 1}"
        raise FormatError("label outside the classes", where=path, expected=expected, found=first_few(outside))


def _check_alignment(manifest: Manifest, path: AnyPath) -> None:
    def aligned(image: InputImage) -> bool:
        center, scale = image.center or [], image.scale or []
        return image.image_id is not None and len(center) == len(scale) == 2 and min(scale) > 0

    without = [image.source for image in manifest.images if not aligned(image)]
    if without:
        what, expected = (
            "images without `image_id`, `center` or `scale`",
            "a number for image_id, two numbers for center, two positive numbers for scale",
        )
        raise FormatError(what, where=path, expected=expected, found=first_few(without))
    check_unique("duplicate image_id", (image.image_id for image in manifest.images), path)
