"""The difference between two versions of a tensor, summed over images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Error(NamedTuple):
    """The difference of one tensor from the reference, in one figure each."""

    relative: float  # norm of the difference / norm of the reference: msprobe's RelativeEuclideanDistance
    cosine: float
    largest: float  # absolute
    mean: float  # absolute


class Sums:
    """Sums over all images of the difference between two tensors; values that are not finite are only counted."""

    def __init__(self) -> None:
        self.difference, self.expected, self.found, self.product = 0.0, 0.0, 0.0, 0.0
        self.largest, self.absolute, self.values, self.not_finite = 0.0, 0.0, 0, 0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        finite = np.isfinite(found)
        comparable = np.isfinite(expected)
        self.not_finite += int((comparable & ~finite).sum())
        comparable &= finite
        a, b = (values[comparable].astype(np.float64) for values in (expected, found))
        difference = a - b
        self.difference += float(difference @ difference)
        self.expected += float(a @ a)
        self.found += float(b @ b)
        self.product += float(a @ b)
        np.abs(difference, out=difference)
        self.largest = max(self.largest, float(difference.max(initial=0)))
        self.absolute += float(difference.sum())
        self.values += len(difference)

    def error(self) -> Error:
        norm = (self.expected * self.found) ** 0.5
        cosine = self.product / norm if norm else float(self.expected == self.found)
        relative = (self.difference / self.expected) ** 0.5 if self.expected else float(self.difference > 0)
        return Error(relative, min(1.0, cosine), self.largest, self.absolute / max(1, self.values))
