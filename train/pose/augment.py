"""Random rotation, scale, shift and flip of a training image, with its joints and mask.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/transforms/transforms.py; the pixels are equal.
Differs: a flip sends a joint at x to side - x, where its pixels are (upstream's side - 1 - x is right for the index of
a cell, but for a joint within a cell it is the next cell to the left), and the loss counts the black border beyond an
image: docs/decisions/0019-pose-training.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from yacs.config import CfgNode

UNIT = 200  # pixels: the size of a square for which MAX_TRANSLATE is given


class Motion(NamedTuple):
    """The square of an image that becomes the net's input."""

    x: float  # centre of the square, pixels
    y: float
    width: float  # of the square, pixels
    stretch: float  # width divided by the image's side that SCALE_TYPE names
    degrees: float  # rotation of the square, clockwise
    flip: bool

    def matrix(self, side: int) -> np.ndarray:
        """float64 [2, 3]: from pixels of the image to cells of a map of `side` x `side`, before the flip."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        rotation = side / self.width * np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([rotation, side / 2 - rotation @ (self.x, self.y)])


def random_motion(rng: np.random.Generator, width: int, height: int, settings: CfgNode) -> Motion:
    """A motion within the bounds of DATASET for an image of `width` x `height` pixels."""
    stretch = rng.uniform(settings.MIN_SCALE, settings.MAX_SCALE)
    square = stretch * (min if settings.SCALE_TYPE == "short" else max)(width, height)
    degrees = rng.uniform(-settings.MAX_ROTATION, settings.MAX_ROTATION)
    reach = int(settings.MAX_TRANSLATE * square / UNIT)
    right, down = rng.integers(-reach, max(reach, 1), 2)
    flip = bool(rng.random() < settings.FLIP)
    return Motion(width / 2 + right, height / 2 + down, square, stretch, degrees, flip)


def move_image(image: np.ndarray, motion: Motion, side: int) -> np.ndarray:
    """uint8 [H, W, 3] as [side, side, 3]; black beyond the image."""
    warped = cv2.warpAffine(image, motion.matrix(side), (side, side))
    return warped[:, ::-1] if motion.flip else warped


def move_mask(mask: np.ndarray, motion: Motion, side: int) -> np.ndarray:
    """bool [H, W] as float32 [side, side] of 0 and 1; 1 beyond the image, since nobody is there."""
    grey = cv2.warpAffine(mask.astype(np.uint8) * 255, motion.matrix(side), (side, side), borderValue=255)
    warped = grey > 127
    return (warped[:, ::-1] if motion.flip else warped).astype(np.float32)


def move_joints(joints: np.ndarray, motion: Motion, side: int, partners: Sequence[int]) -> np.ndarray:
    """float64 [people, joints, 3] (x, y, flag) in cells of a map of `side`; a flip makes joint k `partners[k]`."""
    matrix = motion.matrix(side)
    moved = joints.copy()
    moved[:, :, :2] = joints[:, :, :2] @ matrix[:, :2].T + matrix[:, 2]
    if motion.flip:
        moved[:, :, 0] = side - moved[:, :, 0]
        moved = moved[:, list(partners)]
    return moved
