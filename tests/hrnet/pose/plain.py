"""The decoder's steps on whole maps: slow, but easy to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from hrnet.pose.joints import COUNT, FLIPPED

Outputs = Sequence[np.ndarray]


def doubled(planes: np.ndarray) -> np.ndarray:
    """float32 [C, 2H, 2W] of [C, H, W]: bilinear, corners not aligned; the first product is not rounded."""
    for axis in (2, 1):
        x = np.moveaxis(planes, axis, 2)
        place = np.maximum((np.arange(2 * x.shape[2]) + 0.5) / 2 - 0.5, 0)
        low = place.astype(int)
        high = np.minimum(low + 1, x.shape[2] - 1)
        part = (place - low).astype(np.float32)
        second = x[..., high] * part
        planes = np.moveaxis((x[..., low].astype(np.float64) * (1 - part) + second).astype(np.float32), 2, axis)
    return planes


def whole_maps(outputs: Outputs, outputs_flip: Optional[Outputs]) -> tuple[np.ndarray, np.ndarray]:
    """float32 heatmaps [17, H, W] and tags [17, H, W, D]."""
    order = list(FLIPPED)
    half = doubled(outputs[0][0])
    heat = doubled((half[:COUNT] + outputs[1][0]) / 2)
    tags = [doubled(half[COUNT:])]
    if outputs_flip is not None:
        half = doubled(outputs_flip[0][0])[:, :, ::-1]
        flipped = (half[:COUNT] + outputs_flip[1][0][:, :, ::-1]) / 2
        heat = (heat + doubled(flipped[order])) / 2
        tags.append(doubled(half[COUNT:][order]))
    return heat, np.stack(tags, axis=3)


def is_peak(heat: np.ndarray) -> np.ndarray:
    """bool [17, H, W]: no pixel of the 5 x 5 around is higher."""
    padded = np.pad(heat, ((0, 0), (2, 2), (2, 2)), constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (1, 2))
    return heat == around.max(axis=(3, 4))


def quarter(plane: np.ndarray, x: int, y: int) -> tuple[float, float]:
    height, width = plane.shape
    right = plane[y, min(x + 1, width - 1)] > plane[y, max(x - 1, 0)]
    down = plane[min(y + 1, height - 1), x] > plane[max(y - 1, 0), x]
    return x + (0.75 if right else 0.25), y + (0.75 if down else 0.25)


def best_pixel(heat: np.ndarray, tags: np.ndarray, centre: np.ndarray) -> tuple[int, int]:
    """x and y of the highest value of heat [H, W] minus the rounded distance of tags [H, W, D] from centre [D]."""
    distance = ((tags - centre) ** 2).sum(axis=2) ** 0.5
    y, x = np.unravel_index(np.argmax(heat - np.round(distance)), heat.shape)
    return int(x), int(y)
