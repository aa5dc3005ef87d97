"""Find the range of a tensor's values from a histogram by one of three methods: minimum and maximum; the range that
contains a percentage of the values; or the range with the smallest Kullback-Leibler divergence. Memory does not grow
with the number of images.

A histogram covers -limit to limit, where limit is a power of two. If a value is larger, limit is doubled and pairs of
bins are merged, so the bins nest exactly: the result does not depend on how the images are divided into batches.

Source of the entropy method: S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

BINS = 4096
PIECE = 1 << 16  # values that are counted at a time
PERCENTILE = 99.99  # percentage of the values inside the range
LEVELS = 256  # of int8
CANDIDATES = 64  # ranges that the entropy method tries
SMOOTH = 1e-6  # least probability of a bin in the entropy method: with 0 the divergence would be infinite
SMALLEST = 2.0**-60  # limit of a tensor of zeros


class Histogram:
    """The distribution of the values of one tensor."""

    def __init__(self) -> None:
        self.limit = SMALLEST
        self.counts = np.zeros(BINS, np.int64)
        self.low, self.high = np.inf, -np.inf
        self._ranges: dict[str, tuple[float, float]] = {}  # method -> range, computed since the last `add`
        self.sums, self.positions = np.zeros(1), 0  # for [N, C, H, W]: sum of each channel, number of its values

    def add(self, values: np.ndarray) -> None:
        """Count finite float32 values of any shape. Raises ValueError for NaN and infinite values."""
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("NaN or infinite values")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._ranges.clear()
        if values.ndim == 4:
            self.sums = self.sums + values.sum(axis=(0, 2, 3), dtype=np.float64)
            self.positions += values.size // values.shape[1]
        largest = max(-low, high, SMALLEST / 2)
        limit = 2.0 ** math.frexp(largest)[1]  # larger than all values: a value at the limit would have no bin
        if not self.counts.any():
            self.limit = limit
        while self.limit < limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)])
            self.limit *= 2
        flat, scale = values.reshape(-1), np.float64(BINS / 2 / self.limit)
        for start in range(0, flat.size, PIECE):
            bins = np.floor(flat[start : start + PIECE] * scale).astype(np.intp) + BINS // 2
            self.counts += np.bincount(np.minimum(bins, BINS - 1, out=bins), minlength=BINS)

    def means(self) -> Optional[np.ndarray]:
        """The mean of each channel, float64 [C]; None unless the values were [N, C, H, W]."""
        return self.sums / self.positions if self.positions else None

    def edges(self) -> np.ndarray:
        """The limits of the bins, float64 [BINS + 1]."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    def range(self, method: str) -> tuple[float, float]:
        """The range, found by one of METHODS. It contains 0, as quantization requires."""
        if method not in self._ranges:
            chosen = {"minmax": self._minmax, "percentile": self._percentile, "entropy": self._entropy}[method]()
            self._ranges[method] = min(chosen[0], 0.0), max(chosen[1], 0.0)
        return self._ranges[method]

    def _minmax(self) -> tuple[float, float]:
        return self.low, self.high

    def _percentile(self) -> tuple[float, float]:
        """The range with equal shares of the values below and above it."""
        share = np.cumsum(self.counts) / self.counts.sum()
        outside, edges = (1 - PERCENTILE / 100) / 2, self.edges()
        low = edges[np.searchsorted(share, outside, side="right")]
        high = edges[min(int(np.searchsorted(share, 1 - outside)) + 1, BINS)]
        return max(self.low, float(low)), min(self.high, float(high))

    def _entropy(self) -> tuple[float, float]:
        """The range, clipped at -t and t, whose quantized distribution has the smallest divergence."""
        largest = max(-self.low, self.high)
        best, chosen = np.inf, self._minmax()
        for step in range(CANDIDATES, 0, -1):
            clip = largest * step / CANDIDATES
            low, high = max(self.low, -clip), min(self.high, clip)
            divergence = self._divergence(low, high)
            if divergence < best:
                best, chosen = divergence, (low, high)
        return chosen

    def _divergence(self, low: float, high: float) -> float:
        """The Kullback-Leibler divergence between the values clipped to the range and the values rounded to LEVELS
        levels in it. Zeros are not counted: int8 represents 0 exactly, and after a ReLU half of the values are 0."""
        scale = BINS / 2 / self.limit
        first = min(int((low + self.limit) * scale), BINS - 1)
        last = min(int((high + self.limit) * scale), BINS - 1)
        counts = self.counts.astype(np.float64)
        counts[BINS // 2] = 0
        inside = counts[first : last + 1]
        if inside.size <= LEVELS or not inside.any():
            return np.inf if inside.sum() < counts.sum() else 0.0
        clipped = inside.copy()
        clipped[0] += counts[:first].sum()
        clipped[-1] += counts[last + 1 :].sum()
        level = np.arange(inside.size) * LEVELS // inside.size
        filled = inside > 0
        sums, bins = (np.bincount(level, each, LEVELS) for each in (inside, filled))
        quantized = np.where(filled, (sums / np.maximum(bins, 1))[level], 0.0)
        p, q = clipped / clipped.sum(), np.maximum(quantized / max(quantized.sum(), 1.0), SMOOTH)
        seen = p > 0
        return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
