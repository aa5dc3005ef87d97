"""The network's two outputs as maps at the size of its input, evaluated where they are asked for.

The full maps (17 heatmaps and 34 maps of tags, a quarter of a million pixels each) are never made. `Maps.heat` and
`Maps.tags` give them in windows, to the bit as upstream makes them: output1 doubled, averaged with output2, doubled,
averaged with the same of the flipped image. `Maps.mean` gives the heatmaps with everything averaged before the last
doubling, right to `Maps.error`: enough to tell where to look.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/inference.py
(get_multi_stage_outputs, aggregate_results); torch's bilinear interpolation without aligned corners, at factor 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np

from hrnet.cli import UserError
from hrnet.pose.joints import COUNT, FLIPPED

MULTIPLE = 32  # of the input's sides in pixels: HigherHRNet halves them five times
ROUNDING = 64 * 2.0**-24  # more than two float32 ways to one value can differ, relative to the largest on the way


def cut(planes: np.ndarray, channels: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int) -> np.ndarray:
    """[N, m, n] of planes [C, H, W]: windows in channels [N] whose first row and column are top and left [N]. Beyond
    the border stand the border's values."""
    rows = (top[:, None] + np.arange(m)).clip(0, planes.shape[1] - 1)
    columns = (left[:, None] + np.arange(n)).clip(0, planes.shape[2] - 1)
    return planes[channels[:, None, None], rows[:, :, None], columns[:, None, :]]


def double(values: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int) -> np.ndarray:
    """Windows of a map interpolated to twice its size, to the bit as torch does on the CPU.

    values float32 [N, m, n]: windows, as `cut` makes them, of a map of height x width. Returns float32
    [N, 2m - 2, 2n - 2], whose first row and column are 2 * top + 1 and 2 * left + 1.
    """
    wide = _double_last(values, left, width)
    return _double_last(wide.swapaxes(1, 2), top, height).swapaxes(1, 2)


def _double_last(values: np.ndarray, start: np.ndarray, size: int) -> np.ndarray:
    """`double` along the last axis. torch computes w0 * a + round(w1 * b) and rounds once more: its first product is
    fused with the sum. A quarter of a float32 is exact, and so are three quarters as a float64."""
    a, b = values[..., :-1], values[..., 1:]
    doubled = np.empty((*values.shape[:-1], 2 * a.shape[-1]), np.float32)
    doubled[..., ::2] = np.multiply(a, 0.75, dtype=np.float64) + np.float32(0.25) * b
    between = np.float32(0.25) * a + np.float32(0.75) * b
    place = 2 * (start[:, None] + np.arange(1, values.shape[-1]))
    outside = (place <= 0) | (place >= 2 * size)
    doubled[..., 1::2] = np.where(outside[:, None, :], b, between)  # a and b are the border's value there
    return doubled


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
                    "outputs of no HigherHRNet", expected="float32 [1, 34, H/4, W/4] and [1, 17, H/2, W/2]", found=found
                )
        if self.height % MULTIPLE or self.width % MULTIPLE:
            found = f"{self.width} x {self.height}"
            raise UserError("size of the input", expected=f"multiples of {MULTIPLE}", found=found)
        self.low = [low[0] for low, _ in pairs]
        self.high = [high[0] for _, high in pairs]
        self.error = ROUNDING * max(_largest(heat) for heat in [low[:COUNT] for low in self.low] + self.high)
        self.tag_error = ROUNDING * max(_largest(low[COUNT:]) for low in self.low)

    def mean(self) -> np.ndarray:
        """float32 [17, H/2, W/2]: the mean heatmaps before their last doubling; doubled or not, right to `error`."""
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
        """D of float32 [H/4, W/4]: the tags of a joint before they are doubled twice."""
        tags = [self.low[0][COUNT + joint]]
        if self.dimensions == 2:
            tags.append(cv2.flip(self.low[1][COUNT + FLIPPED[joint]], 1))
        return tags

    def heat(self, joints: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int) -> np.ndarray:
        """float32 [N, 4m + 2, 4n + 2]: heatmaps of joints [N] in windows of 4m x 4n pixels whose first row and column
        are 4 * top and 4 * left [N], with a border of one pixel around them."""
        halves = []
        for flip in range(self.dimensions):
            channels = joints if not flip else np.take(FLIPPED, joints)
            mean = self._doubled(flip, channels, top, left, m, n)
            if flip:
                columns = self.width // 2 - 1 - 2 * left - 2 * n
                mean += cut(self.high[1], channels, 2 * top - 1, columns, 2 * m + 2, 2 * n + 2)[..., ::-1]
            else:
                mean += cut(self.high[0], channels, 2 * top - 1, 2 * left - 1, 2 * m + 2, 2 * n + 2)
            mean /= 2
            halves.append(double(mean, 2 * top - 1, 2 * left - 1, self.height // 2, self.width // 2))
        return halves[0] if self.dimensions == 1 else (halves[0] + halves[1]) / np.float32(2)

    def tags(self, joints: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int) -> np.ndarray:
        """float32 [D, N, 4m + 2, 4n + 2]: the tags in the same windows as `heat`."""
        tags = np.empty((self.dimensions, len(joints), 4 * m + 2, 4 * n + 2), np.float32)
        for flip in range(self.dimensions):
            channels = COUNT + (joints if not flip else np.take(FLIPPED, joints))
            half = self._doubled(flip, channels, top, left, m, n)
            tags[flip] = double(half, 2 * top - 1, 2 * left - 1, self.height // 2, self.width // 2)
        return tags

    def whole_heat(self, joint: int) -> np.ndarray:
        """float32 [H, W]: the heatmap of a joint."""
        zero = np.zeros(1, np.int64)
        return self.heat(zero + joint, zero, zero, self.height // 4, self.width // 4)[0, 1:-1, 1:-1]

    def whole_tags(self, joint: int) -> np.ndarray:
        """float32 [D, H, W]: the tags of a joint."""
        zero = np.zeros(1, np.int64)
        return self.tags(zero + joint, zero, zero, self.height // 4, self.width // 4)[:, 0, 1:-1, 1:-1]

    def _doubled(
        self, flip: int, channels: np.ndarray, top: np.ndarray, left: np.ndarray, m: int, n: int
    ) -> np.ndarray:
        """float32 [N, 2m + 2, 2n + 2]: output1 doubled, from row 2 * top - 1 and column 2 * left - 1; that of the
        flipped image is doubled before it is flipped back."""
        low = self.low[flip]
        height, width = low.shape[1:]
        left = width - 1 - left - n if flip else left - 1
        half = double(cut(low, channels, top - 1, left, m + 2, n + 2), top - 1, left, height, width)
        return half[..., ::-1] if flip else half


def _largest(values: np.ndarray) -> float:
    """The largest magnitude; values must be finite."""
    largest = max(float(values.max()), -float(values.min()))
    if not np.isfinite(largest):
        raise UserError("outputs hold NaN or infinity: the input, the weights or an overflow in fp16")
    return largest
