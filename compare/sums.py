"""The difference between two versions of a tensor, summed over images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Error(NamedTuple):
    """How much one tensor differs from the reference."""

    relative: float  # norm of the difference / norm of the reference: msprobe's RelativeEuclideanDistance
    cosine: float
    largest: float  # absolute
    mean: float  # absolute


class Sums:
    """Sums over all images of the difference between two tensors; values that are finite in `expected`
    but not in `found` are counted instead."""

    def __init__(self) -> None:
        self.difference, self.expected, self.found, self.product = 0.0, 0.0, 0.0, 0.0
        self.largest, self.absolute, self.values, self.not_finite = 0.0, 0.0, 0, 0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        a, b = expected.ravel(), found.ravel()
        comparable, finite = np.isfinite(a), np.isfinite(b)
        if not (comparable.all() and finite.all()):
            self.not_finite += int((comparable & ~finite).sum())
            comparable &= finite
            a, b = a[comparable], b[comparable]
        self.values += len(a)
        # Multiply and sum with NumPy instead of np.dot: BLAS would use all cores for each call and wait for them.
        self.expected += float(np.square(a, dtype=np.float64).sum())
        self.found += float(np.square(b, dtype=np.float64).sum())
        self.product += float(np.multiply(a, b, dtype=np.float64).sum())
        difference = np.subtract(a, b, dtype=np.float64)
        np.abs(difference, out=difference)
        self.largest = max(self.largest, float(difference.max(initial=0)))
        self.absolute += float(difference.sum())
        self.difference += float(np.square(difference, out=difference).sum())

    def error(self) -> Error:
        norm = (self.expected * self.found) ** 0.5
        cosine = self.product / norm if norm else float(self.expected == self.found)
        relative = (self.difference / self.expected) ** 0.5 if self.expected else float(self.difference > 0)
        return Error(relative, min(1.0, cosine), self.largest, self.absolute / max(1, self.values))
