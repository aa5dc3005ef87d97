"""Random rotation, scale, shift and flip of a training image, with its joints and mask.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/transforms/transforms.py; the pixels are equal.
Two differences (docs/decisions/0019-pose-training.md): a flip moves a joint from x to side - x, like its pixels
(upstream's side - 1 - x is correct for the index of a cell, but moves a joint with a fractional coordinate one cell too
far left), and the loss includes the black border outside an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from yacs.config import CfgNode

UNIT = 200  # pixels: MAX_TRANSLATE is given for a square of this size


class Transform(NamedTuple):
    """The square of an image that becomes the network's input."""

    x: float  # centre of the square, pixels
    y: float
    width: float  # of the square, pixels
    stretch: float  # width divided by the image's side that SCALE_TYPE names
    degrees: float  # rotation of the square, clockwise
    flip: bool

    def matrix(self, side: int) -> np.ndarray:
        """Affine matrix, float64 [2, 3], from image pixels to cells of a `side` x `side` map, before the flip."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        rotation = side / self.width * np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([rotation, side / 2 - rotation @ (self.x, self.y)])


def random_transform(rng: np.random.Generator, width: int, height: int, settings: CfgNode) -> Transform:
    """A random transform within the limits in DATASET, for an image of `width` x `height` pixels."""
    stretch = rng.uniform(settings.MIN_SCALE, settings.MAX_SCALE)
    square = stretch * (min if settings.SCALE_TYPE == "short" else max)(width, height)
    degrees = rng.uniform(-settings.MAX_ROTATION, settings.MAX_ROTATION)
    reach = int(settings.MAX_TRANSLATE * square / UNIT)
    right, down = rng.integers(-reach, max(reach, 1), 2)
    flip = bool(rng.random() < settings.FLIP)
    return Transform(width / 2 + right, height / 2 + down, square, stretch, degrees, flip)


def warp_image(image: np.ndarray, transform: Transform, side: int) -> np.ndarray:
    """Warp an image, uint8 [H, W, 3], to [side, side, 3]; pixels outside the image are black."""
    warped = cv2.warpAffine(image, transform.matrix(side), (side, side))
    return warped[:, ::-1] if transform.flip else warped


def warp_mask(mask: np.ndarray, transform: Transform, side: int) -> np.ndarray:
    """Warp a mask, bool [H, W], to float32 [side, side] of 0 and 1; 1 outside the image, where no person is."""
    grey = cv2.warpAffine(mask.astype(np.uint8) * 255, transform.matrix(side), (side, side), borderValue=255)
    warped = grey > 127
    return (warped[:, ::-1] if transform.flip else warped).astype(np.float32)


def transform_joints(joints: np.ndarray, transform: Transform, side: int, partners: Sequence[int]) -> np.ndarray:
    """Transform joints, float64 [people, joints, 3] (x, y, flag), from image pixels to cells of a `side` x `side` map.
    A flip replaces joint k by joint `partners[k]`."""
    matrix = transform.matrix(side)
    moved = joints.copy()
    moved[:, :, :2] = joints[:, :, :2] @ matrix[:, :2].T + matrix[:, 2]
    if transform.flip:
        moved[:, :, 0] = side - moved[:, :, 0]
        moved = moved[:, list(partners)]
    return moved
