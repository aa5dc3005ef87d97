"""Read prepared inputs, and convert them to the float32 input of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from hrnet.images import to_input
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError
from hrnet.io.tensors import read_output


def read_input(folder: Path, image: InputImage, manifest: Manifest) -> np.ndarray:
    """The input of one image with the batch axis, as it is stored: float32 [1, 3, H, W] or uint8 [1, H, W, 3]."""
    path = folder / f"{image.stem}.{manifest.suffix}"
    values = read_output(path, manifest.dtype, "run make preprocess")
    shape = [1, *image.shape]
    if values.dtype != np.dtype(manifest.dtype) or values.size != np.prod(shape):
        found = f"{values.dtype} {list(values.shape)}"
        expected = f"{manifest.dtype} {shape}"
        raise FormatError("wrong input", where=path, expected=expected, found=found, hint="run make preprocess")
    return values.reshape(shape)


def planes(values: np.ndarray, config: CfgNode) -> np.ndarray:
    """The float32 input [N, 3, H, W] of the network: normalises uint8 pixels [N, H, W, 3] as preprocess does."""
    if values.dtype != np.uint8:
        return values
    reciprocal = config.INPUT.get("RESIZER") == "cv2"
    return np.stack([to_input(each, config.INPUT.MEAN, config.INPUT.STD, "float32", reciprocal) for each in values])


def spread(images: Sequence[InputImage], count: int) -> list[InputImage]:
    """`count` images at equal distances in the list, which may be sorted by class."""
    count = min(count, len(images))
    return [images[at * len(images) // count] for at in range(count)]
