"""Pillow's resize of RGB pixels (antialiased; src/libImaging/Resample.c of python-pillow/Pillow), to the bit, computing
of a bilinear resize only what is asked for.

The weights are made here, the sums over pixels in `_resample.c`. Where that was not compiled, as on a board without a
compiler, Pillow itself does the work: the same pixels in some six times the time (docs/decisions/0022-resize.md). It
also does every bicubic resize.
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

ONE = 1 << 22  # a weight of 1
TALL = 2  # times as high as wide: from there on Pillow 13 resizes columns before rows, and rounds otherwise


@lru_cache(maxsize=256)
def weights(source: int, resized: int, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `size` pixels from `start` on, along an axis of `source` pixels that becomes one of `resized`: the first
    neighbour of each, int32 [size], and how much it and those behind it count, int32 [size, taps], in units of 1 / ONE.

    A triangle that is 0 at one pixel's distance, of the larger of both scales, divided by its sum; in float64, in
    Pillow's order.
    """
    scale = source / resized
    support = max(scale, 1.0)
    centre = (np.arange(start, start + size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int32), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int32), source)
    taps = int((end - first).max())
    begin = np.minimum(first, source - taps)  # so that no tap lies behind the last pixel
    neighbour = begin[:, None] + np.arange(taps)  # [size, taps]
    triangle = np.maximum(1.0 - np.abs((neighbour - centre[:, None] + 0.5) * (1.0 / support)), 0.0)
    triangle[(neighbour < first[:, None]) | (neighbour >= end[:, None])] = 0.0
    total = np.zeros(size)
    for tap in triangle.T:  # one after the other: np.sum would add in an order of its own
        total += tap
    return begin, (triangle / total[:, None] * ONE + 0.5).astype(np.int32)


def resize_part(
    pixels: np.ndarray,
    size: tuple[int, int],
    left: int,
    top: int,
    width: int,
    height: int,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """The part of `width` x `height` pixels at (left, top) of an image uint8 [H, W, 3] that is resized to `size`, width
    and height: uint8 [height, width, 3]. What lies outside of the resized image is black. `interpolation`: bilinear or
    bicubic."""
    inside = 0 <= left <= size[0] - width and 0 <= top <= size[1] - height
    compiled = COMPILED and interpolation == "bilinear"
    if not compiled or not inside or pixels.shape[0] > TALL * pixels.shape[1]:
        resized = Image.fromarray(pixels).resize(size, Image.Resampling[interpolation.upper()])
        return np.asarray(resized.crop((left, top, left + width, top + height)))
    part = np.empty((height, width, 3), dtype=np.uint8)
    columns = weights(pixels.shape[1], size[0], left, width)
    rows = weights(pixels.shape[0], size[1], top, height)
    _resample.resample(np.ascontiguousarray(pixels), pixels.shape[1], *columns, *rows, part)
    return part
