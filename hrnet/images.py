"""Image maths of more than one stage: arrays in and out, no files.

The arithmetic is the seed's (imagenet_torch_preprocess.py, the same as torchvision's on PIL images): short side
resized, centre crop, /255, mean and standard deviation in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def short_side_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height that an image of `size` has at a short side of `short`; the long side is cut to an integer."""
    width, height = size
    return (short, int(short * height / width)) if width < height else (int(short * width / height), short)


def centre_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut `width` x `height` pixels from the centre; half pixels go to the even neighbour, as Python's round does."""
    left = round((image.width - width) / 2.0)
    top = round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def resize_and_crop(image: Image.Image, short: int, width: int, height: int) -> Image.Image:
    """Resize (PIL bilinear, antialiased) to a short side of `short` pixels, then cut the centre.

    To the bit as both steps one after the other, in less time where an image lies: Pillow resizes it along rows and then
    along columns, so the columns outside the cut can be dropped in between. Of one that stands (twice as high as wide)
    Pillow 13 begins with the columns.
    """
    if min(image.size) == short:
        return centre_crop(image, width, height)
    size = short_side_size(image.size, short)
    if image.width < image.height:
        return centre_crop(image.resize(size, Image.Resampling.BILINEAR), width, height)
    columns = image.resize((size[0], image.height), Image.Resampling.BILINEAR)
    columns = centre_crop(columns, width, image.height)
    return centre_crop(columns.resize((width, size[1]), Image.Resampling.BILINEAR), width, height)


def normalise_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """float32 [3, 256]: what each pixel value of each channel becomes, `(value / 255 - mean) / std` step by step in
    float32, so that looking up gives the very bits that computing does."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    table: np.ndarray = scaled - np.asarray(mean, dtype=np.float32)[:, None]
    table /= np.asarray(std, dtype=np.float32)[:, None]
    return table


def normalise(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to float32 [3, H, W], contiguous, by `normalise_table`."""
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel in range(3):
        np.take(table[channel], pixels[:, :, channel], out=planes[channel], mode="clip")
    return planes
