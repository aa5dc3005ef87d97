"""Training targets of a pose network: heatmaps with a Gaussian at each joint, indices of the tags, and the loss mask.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/COCOKeypoints.py and
lib/dataset/target_generators/target_generators.py (with SCALE_AWARE_SIGMA upstream itself fails: its build.py calls the
generator with too many arguments). One difference: MAX_NUM_PEOPLE counts only people with a labelled joint.

Joints are float64 [people, joints, 3]: x, y in pixels and COCO's flag (0: not labelled). Maps are square.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools import mask as run_lengths
from yacs.config import CfgNode

NONE = -1  # in `tag_indices`: no such joint, or no such person
RADIUS = 3  # of a Gaussian, in sigmas; plus one cell on each side


class Targets(NamedTuple):
    """The targets of one output of the network; in a batch each has a batch dimension in front."""

    heatmaps: torch.Tensor  # float32 [joints, side, side]
    mask: torch.Tensor  # float32 [side, side]: 1 where the heatmap loss counts, else 0
    indices: torch.Tensor  # int64 [people, joints], see `tag_indices`


def labelled_people(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The people with labelled joints."""
    return [person for person in annotations if person["num_keypoints"] > 0]


def joints_of(people: list[dict[str, Any]], count: int) -> np.ndarray:
    """The keypoints of COCO annotations as float64 [people, count, 3]."""
    return np.array([person["keypoints"] for person in people], dtype=np.float64).reshape(-1, count, 3)


def loss_mask(annotations: list[dict[str, Any]], width: int, height: int) -> np.ndarray:
    """bool [height, width]: False on crowds, and on people without a labelled joint."""
    ignored = np.zeros((height, width), dtype=bool)
    for person in annotations:
        if person["segmentation"] and (person["iscrowd"] or person["num_keypoints"] == 0):
            outline = run_lengths.frPyObjects(person["segmentation"], height, width)
            masks = run_lengths.decode(outline if isinstance(outline, list) else [outline])  # uint8 [H, W, pieces]
            ignored |= masks.any(axis=2)
    return ~ignored


def sigmas_of(people: list[dict[str, Any]], settings: CfgNode, side: int, stretch: float) -> np.ndarray:
    """The sigma of each person's Gaussians, float64 [people], in cells of a `side` x `side` map.

    SIGMA (if negative: side / 64), or with SCALE_AWARE_SIGMA proportional to the person's size. `stretch`: see
    train.pose.augment.Transform.
    """
    if not settings.SCALE_AWARE_SIGMA:
        return np.full(len(people), settings.SIGMA if settings.SIGMA >= 0 else side / 64, dtype=np.float64)
    sizes = np.array([max(person["bbox"][2:]) for person in people], dtype=np.float64)
    sigmas = sizes / settings.BASE_SIZE * settings.BASE_SIGMA
    if settings.INT_SIGMA:
        sigmas = np.rint(sigmas + 0.5)
    return sigmas / stretch


def heatmaps(joints: np.ndarray, sigmas: np.ndarray, side: int) -> np.ndarray:
    """float32 [joints, side, side]: exp(-d^2 / 2 sigma^2) around the cell of each labelled joint, the maximum where
    Gaussians overlap. `joints` in cells, `sigmas` [people]."""
    maps = np.zeros((joints.shape[1], side, side), dtype=np.float32)
    inside = _inside(joints, side)
    for person, joint in zip(*np.nonzero(inside)):
        sigma = sigmas[person]
        (columns, across), (rows, down) = (_gaussian(int(cell), sigma, side) for cell in joints[person, joint, :2])
        patch = maps[joint, rows, columns]
        np.maximum(patch, np.outer(down, across), out=patch, casting="same_kind")
    return maps


def _gaussian(cell: int, sigma: float, side: int) -> tuple[slice, np.ndarray]:
    """The cells along one axis that a Gaussian covers, and its values there."""
    first, end = round(cell - RADIUS * sigma - 1), round(cell + RADIUS * sigma + 2)
    cells = np.arange(max(0, first), min(end, side))
    middle = first + RADIUS * sigma + 1  # the joint's cell, for an integer sigma
    return slice(max(0, first), min(end, side)), np.exp(-((cells - middle) ** 2) / (2 * sigma**2))


def _inside(joints: np.ndarray, side: int) -> np.ndarray:
    """bool [people, joints]: labelled and inside the map. A coordinate between -1 and 0 counts as cell 0."""
    x, y, flags = np.moveaxis(joints, 2, 0)
    return (flags > 0) & (x > -1) & (y > -1) & (x < side) & (y < side)


def tag_indices(joints: np.ndarray, side: int, most: int, per_joint: bool) -> np.ndarray:
    """int64 [most, joints]: index of each joint's tag in an output's flattened tag maps, or NONE. `per_joint`: one tag
    map for each joint, else one map for all joints. Only the first `most` people are used."""
    joints = joints[:most]
    cells = joints[:, :, :2].astype(np.int64)
    indices = cells[:, :, 1] * side + cells[:, :, 0]
    if per_joint:
        indices += np.arange(joints.shape[1]) * side**2
    found = np.full((most, joints.shape[1]), NONE, dtype=np.int64)
    found[: len(joints)] = np.where(_inside(joints, side), indices, NONE)
    return found
