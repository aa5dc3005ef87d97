"""Heatmaps and tag maps at the size of the network's input, computed from its two outputs only where they are needed.

Computing the full maps (17 heatmaps and 34 tag maps, a quarter of a million pixels each) would be slow. `Maps.heat` and
`Maps.tags` compute windows of them, bit for bit as upstream does. A heatmap: upsample output1, average it with output2,
upsample the result, and average it with the same map of the flipped image. A tag map: upsample output1 twice; the
flipped image gives a second tag. `Maps.mean` averages heatmaps before the last upsampling. Its error is at most
`Maps.error`, which is enough to find the windows that are needed.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/inference.py
(get_multi_stage_outputs, aggregate_results); torch's bilinear interpolation by 2 (align_corners=False).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np

from hrnet.cli import UserError
from hrnet.pose.joints import COUNT, FLIPPED

MULTIPLE = 32  # pixels; height and width must be multiples of it: HigherHRNet halves them five times
ROUNDING = 64 * 2.0**-24  # limit of float32 rounding errors, relative to the largest intermediate value


def cut_windows(
    planes: np.ndarray, channels: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int
) -> np.ndarray:
    """Cut windows [N, m, n] from planes [C, H, W]: window i begins at row top[i], column left[i] of plane channels[i].
    Outside of a plane, the values of its border are repeated."""
    rows = (top[:, None] + np.arange(m)).clip(0, planes.shape[1] - 1)
    columns = (left[:, None] + np.arange(n)).clip(0, planes.shape[2] - 1)
    return planes[channels[:, None, None], rows[:, :, None], columns[:, None, :]]


def upsample(values: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int) -> np.ndarray:
    """Upsample windows of a map by 2, bit for bit as torch does on the CPU.

    values: float32 [N, m, n], windows from `cut_windows` of a map of height x width. Returns float32
    [N, 2m - 2, 2n - 2]; the first row and column are 2 * top + 1 and 2 * left + 1.
    """
    wide = _upsample_last(values, left, width)
    return _upsample_last(wide.swapaxes(1, 2), top, height).swapaxes(1, 2)


def _upsample_last(values: np.ndarray, start: np.ndarray, size: int) -> np.ndarray:
    """`upsample` along the last axis. torch computes round(w0 * a + round(w1 * b)) with a fused multiply-add. The same
    in numpy: a quarter of a float32 is exact in float32, and three quarters are exact in float64."""
    a, b = values[..., :-1], values[..., 1:]
    upsampled = np.empty((*values.shape[:-1], 2 * a.shape[-1]), np.float32)
    upsampled[..., ::2] = np.multiply(a, 0.75, dtype=np.float64) + np.float32(0.25) * b
    between = np.float32(0.25) * a + np.float32(0.75) * b
    place = 2 * (start[:, None] + np.arange(1, values.shape[-1]))
    outside = (place <= 0) | (place >= 2 * size)
    upsampled[..., 1::2] = np.where(outside[:, None, :], b, between)  # there a and b both have the border's value
    return upsampled


class Maps:
    """The outputs for one image and, with the flip test, for the flipped image.

    outputs: output1 float32 [1, 34, H/4, W/4] (17 heatmaps, 17 tags) and output2 float32 [1, 17, H/2, W/2] (heatmaps).
    `dimensions` is the number of tags that a joint has: 2 with the flip test, else 1.
    """

    def __init__(self, outputs: Sequence[np.ndarray], outputs_flip: Optional[Sequence[np.ndarray]] = None) -> None:
        pairs = [outputs] if outputs_flip is None else [outputs, outputs_flip]
        self.height, self.width = 2 * outputs[1].shape[-2], 2 * outputs[1].shape[-1]
        self.dimensions = len(pairs)
        expected = [(1, 2 * COUNT, self.height // 4, self.width // 4), (1, COUNT, self.height // 2, self.width // 2)]
        for pair in pairs:
            if [(array.dtype, array.shape) for array in pair] != [(np.float32, shape) for shape in expected]:
                found = " and ".join(f"{array.dtype} {list(array.shape)}" for array in pair)
                raise UserError(
                    "not HigherHRNet outputs",
                    expected="float32 [1, 34, H/4, W/4] and [1, 17, H/2, W/2]",
                    found=found,
                )
        if self.height % MULTIPLE or self.width % MULTIPLE:
            found = f"{self.width} x {self.height}"
            raise UserError("invalid size of the input", expected=f"multiples of {MULTIPLE}", found=found)
        self.low = [low[0] for low, _ in pairs]
        self.high = [high[0] for _, high in pairs]
        self.error = ROUNDING * max(_largest(heat) for heat in [low[:COUNT] for low in self.low] + self.high)
        self.tag_error = ROUNDING * max(_largest(low[COUNT:]) for low in self.low)

    def mean(self) -> np.ndarray:
        """float32 [17, H/2, W/2]: the mean heatmaps before the last upsampling; their error is at most `error`."""
        size = (self.width // 2, self.height // 2)
        means = np.empty((COUNT, size[1], size[0]), np.float32)
        for k, mean in enumerate(means):
            low, high = self.low[0][k], self.high[0][k]
            if self.dimensions == 2:
                low = cv2.addWeighted(low, 0.5, cv2.flip(self.low[1][FLIPPED[k]], 1), 0.5, 0)
                high = cv2.addWeighted(high, 0.5, cv2.flip(self.high[1][FLIPPED[k]], 1), 0.5, 0)
            cv2.addWeighted(cv2.resize(low, size, interpolation=cv2.INTER_LINEAR), 0.5, high, 0.5, 0, dst=mean)
        return means

    def low_tags(self, joint: int) -> list[np.ndarray]:
        """D arrays float32 [H/4, W/4]: the tags of a joint before upsampling."""
        tags = [self.low[0][COUNT + joint]]
        if self.dimensions == 2:
            tags.append(cv2.flip(self.low[1][COUNT + FLIPPED[joint]], 1))
        return tags

    def heat(self, joints: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int) -> np.ndarray:
        """float32 [N, 4m + 2, 4n + 2]: heatmaps of joints [N] in windows of 4m x 4n pixels, plus a border of one pixel.
        The first row and column inside of the border are 4 * top [N] and 4 * left [N]."""
        halves = []
        for flip in range(self.dimensions):
            channels = joints if not flip else np.take(FLIPPED, joints)
            mean = self._upsampled(flip, channels, top, left, m, n)
            if flip:
                columns = self.width // 2 - 1 - 2 * left - 2 * n
                mean += cut_windows(self.high[1], channels, 2 * top - 1, columns, 2 * m + 2, 2 * n + 2)[..., ::-1]
            else:
                mean += cut_windows(self.high[0], channels, 2 * top - 1, 2 * left - 1, 2 * m + 2, 2 * n + 2)
            mean /= 2
            halves.append(upsample(mean, 2 * top - 1, 2 * left - 1, self.height // 2, self.width // 2))
        return halves[0] if self.dimensions == 1 else (halves[0] + halves[1]) / np.float32(2)

    def tags(self, joints: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int) -> np.ndarray:
        """float32 [D, N, 4m + 2, 4n + 2]: the tags in the same windows as `heat`."""
        tags = np.empty((self.dimensions, len(joints), 4 * m + 2, 4 * n + 2), np.float32)
        for flip in range(self.dimensions):
            channels = COUNT + (joints if not flip else np.take(FLIPPED, joints))
            half = self._upsampled(flip, channels, top, left, m, n)
            tags[flip] = upsample(half, 2 * top - 1, 2 * left - 1, self.height // 2, self.width // 2)
        return tags

    def whole_heat(self, joint: int) -> np.ndarray:
        """float32 [H, W]: the heatmap of a joint."""
        zero = np.zeros(1, np.int64)
        return self.heat(zero + joint, zero, zero, self.height // 4, self.width // 4)[0, 1:-1, 1:-1]

    def whole_tags(self, joint: int) -> np.ndarray:
        """float32 [D, H, W]: the tags of a joint."""
        zero = np.zeros(1, np.int64)
        return self.tags(zero + joint, zero, zero, self.height // 4, self.width // 4)[:, 0, 1:-1, 1:-1]

    def _upsampled(
        self, flip: int, channels: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int
    ) -> np.ndarray:
        """float32 [N, 2m + 2, 2n + 2]: output1 upsampled by 2, from row 2 * top - 1 and column 2 * left - 1. The output
        for the flipped image is upsampled before it is flipped back."""
        low = self.low[flip]
        height, width = low.shape[1:]
        left = width - 1 - left - n if flip else left - 1
        half = upsample(cut_windows(low, channels, top - 1, left, m + 2, n + 2), top - 1, left, height, width)
        return half[..., ::-1] if flip else half


def _largest(values: np.ndarray) -> float:
    """The largest magnitude. Raises UserError for NaN and infinity."""
    largest = max(float(values.max()), -float(values.min()))
    if not np.isfinite(largest):
        raise UserError("NaN or infinity in the outputs", hint="check inputs and weights; fp16 may overflow")
    return largest
