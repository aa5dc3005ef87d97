"""A training picture turned, stretched, shifted and mirrored at random, and its joints and mask with it.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/transforms/transforms.py; the pixels are its own.
Differs: in a mirror a joint at x goes to side - x, where its pixels are (upstream's side - 1 - x counts in whole cells;
of a joint within a cell it is the next one to the left), and the black beyond a picture is judged: decision 19.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from yacs.config import CfgNode

UNIT = 200  # pixels: what MAX_TRANSLATE is told for


class Motion(NamedTuple):
    """Which square of a picture the net sees, and how."""

    x: float  # the square's middle, pixels
    y: float
    width: float  # of the square, pixels
    stretch: float  # the width, of the picture's side that SCALE_TYPE names
    degrees: float  # how far the square is turned, clockwise
    mirrored: bool

    def matrix(self, side: int) -> np.ndarray:
        """float64 [2, 3]: pixels of the picture to those of a map of `side` x `side`, before it is mirrored."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        turned = side / self.width * np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([turned, side / 2 - turned @ (self.x, self.y)])


def random_motion(rng: np.random.Generator, width: int, height: int, settings: CfgNode) -> Motion:
    """A motion within the bounds of DATASET for a picture of `width` x `height` pixels."""
    stretch = rng.uniform(settings.MIN_SCALE, settings.MAX_SCALE)
    square = stretch * (min if settings.SCALE_TYPE == "short" else max)(width, height)
    degrees = rng.uniform(-settings.MAX_ROTATION, settings.MAX_ROTATION)
    reach = int(settings.MAX_TRANSLATE * square / UNIT)
    right, down = rng.integers(-reach, max(reach, 1), 2)
    mirrored = bool(rng.random() < settings.FLIP)
    return Motion(width / 2 + right, height / 2 + down, square, stretch, degrees, mirrored)


def moved_picture(picture: np.ndarray, motion: Motion, side: int) -> np.ndarray:
    """uint8 [H, W, 3] as [side, side, 3]; black where the picture ends."""
    warped = cv2.warpAffine(picture, motion.matrix(side), (side, side))
    return warped[:, ::-1] if motion.mirrored else warped


def moved_mask(mask: np.ndarray, motion: Motion, side: int) -> np.ndarray:
    """bool [H, W] as float32 [side, side] of 0 and 1; 1 where the picture ends, since nobody is there."""
    grey = cv2.warpAffine(mask.astype(np.uint8) * 255, motion.matrix(side), (side, side), borderValue=255)
    warped = grey > 127
    return (warped[:, ::-1] if motion.mirrored else warped).astype(np.float32)


def moved_joints(joints: np.ndarray, motion: Motion, side: int, partners: Sequence[int]) -> np.ndarray:
    """float64 [people, joints, 3] (x, y, flag) in cells of a map of `side`; in a mirror joint k is `partners[k]`."""
    matrix = motion.matrix(side)
    moved = joints.copy()
    moved[:, :, :2] = joints[:, :, :2] @ matrix[:, :2].T + matrix[:, 2]
    if motion.mirrored:
        moved[:, :, 0] = side - moved[:, :, 0]
        moved = moved[:, list(partners)]
    return moved
