"""Pillow's antialiased resize of RGB pixels (python-pillow/Pillow, src/libImaging/Resample.c), with identical results.

The weights are computed here, the sums over pixels in `_resample.c`, only for the needed part of the resized image. If
that module is not compiled, for example on a board without a compiler, Pillow is used: same pixels, but slower. Pillow
is also used for bicubic interpolation and some kinds of images (docs/decisions/0022-resize.md).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

try:
    from hrnet import _resample

    COMPILED = True
except ImportError:
    COMPILED = False

ONE = 1 << 22  # the integer that represents a weight of 1


@lru_cache(maxsize=256)
def weights(source: int, resized: int, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights to resize an axis from `source` to `resized` pixels, for `size` pixels of the result from `start` on.
    Returns the first source pixel of each, int32 [size], and the weights of this and the following source pixels, int32
    [size, taps], in units of 1 / ONE.

    The filter is a triangle with a radius of one pixel of the source or of the result, whichever is larger, normalised
    to a sum of 1. It is computed in float64, in the same order as in Pillow.
    """
    scale = source / resized
    support = max(scale, 1.0)
    centre = (np.arange(start, start + size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int32), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int32), source)
    taps = int((end - first).max())
    begin = np.minimum(first, source - taps)  # so that all taps are inside the source
    neighbour = begin[:, None] + np.arange(taps)  # [size, taps]
    triangle = np.maximum(1.0 - np.abs((neighbour - centre[:, None] + 0.5) * (1.0 / support)), 0.0)
    triangle[(neighbour < first[:, None]) | (neighbour >= end[:, None])] = 0.0
    total = np.zeros(size)
    for tap in triangle.T:  # np.sum would add in a different order
        total += tap
    return begin, (triangle / total[:, None] * ONE + 0.5).astype(np.int32)


def height_first(width: int, height: int, size: tuple[int, int]) -> bool:
    """Whether Pillow 13 changes the height before the width: if the height shrinks by more than twice as many pixels as
    the width. `_resample.c` always changes the width first, and so rounds differently."""
    return height > size[1] and height - size[1] > 2 * (width - size[0])


def resize_part(
    pixels: np.ndarray,
    size: tuple[int, int],
    left: int,
    top: int,
    width: int,
    height: int,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Resize uint8 [H, W, 3] to `size` (width, height), but compute only the `width` x `height` pixels at (left, top):
    uint8 [height, width, 3]. Pixels outside of the resized image are black. interpolation: bilinear or bicubic."""
    inside = 0 <= left <= size[0] - width and 0 <= top <= size[1] - height
    compiled = COMPILED and interpolation == "bilinear"
    if not compiled or not inside or height_first(pixels.shape[1], pixels.shape[0], size):
        resized = Image.fromarray(pixels).resize(size, Image.Resampling[interpolation.upper()])
        return np.asarray(resized.crop((left, top, left + width, top + height)))
    part = np.empty((height, width, 3), dtype=np.uint8)
    columns = weights(pixels.shape[1], size[0], left, width)
    rows = weights(pixels.shape[0], size[1], top, height)
    _resample.resample(np.ascontiguousarray(pixels), pixels.shape[1], *columns, *rows, part)
    return part
