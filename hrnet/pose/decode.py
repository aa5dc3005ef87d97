"""Decode HigherHRNet's outputs for one image to people, with the same result as upstream's decoder.

    people = decode((output1, output2), (output1_flip, output2_flip))
    keypoints = to_image(people.keypoints, center, scale, (width, height))

People, their order and their keypoints are the same as from HRNet/HigherHRNet-Human-Pose-Estimation aa23881
(lib/core/inference.py, lib/core/group.py, tools/valid.py with experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml),
run with torch on the CPU and munkres 1.x: docs/decisions/0014-decoder.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.pose.group import group
from hrnet.pose.maps import Maps
from hrnet.pose.peaks import find_peaks, subpixel_positions
from hrnet.pose.refine import refine

STEPS = ("maps", "peaks", "group", "adjust", "refine")


@dataclass(frozen=True)
class Settings:
    """The TEST keys of the same names, and DATASET.MAX_NUM_PEOPLE. Defaults are as in upstream's COCO configs."""

    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    max_num_people: int = 30
    use_detection_val: bool = True
    ignore_too_much: bool = False
    adjust: bool = True
    refine: bool = True


def read_settings(config: CfgNode) -> Settings:
    """The decoder's settings in a config."""
    keys = [field.name for field in fields(Settings) if field.name != "max_num_people"]
    return Settings(max_num_people=config.DATASET.MAX_NUM_PEOPLE, **{key: config.TEST[key.upper()] for key in keys})


@dataclass(frozen=True)
class People:
    """The people of one image, in the order in which the decoder found their first joints."""

    keypoints: np.ndarray  # float32 [P, 17, 3 + D]: x, y (pixels of the input), heatmap value 0..1, D tags (1 or 2)
    scores: np.ndarray  # float32 [P]: mean heatmap value of all 17 joints, before `refine` searches for missing joints


def decode(
    outputs: Sequence[np.ndarray],
    outputs_flip: Optional[Sequence[np.ndarray]] = None,
    settings: Settings = Settings(),
    timings: Optional[dict[str, float]] = None,
) -> People:
    """The people of one image. outputs: output1 float32 [1, 34, H/4, W/4] and output2 float32 [1, 17, H/2, W/2] of an
    input of H x W pixels; outputs_flip: the outputs for the flipped input, for the flip test.

    timings: the milliseconds of each step (STEPS) are added to it, so that it can sum several calls.
    """
    timings = {} if timings is None else timings
    with _timed(timings, "maps"):
        maps = Maps(outputs, outputs_flip)
        means = maps.mean()
    with _timed(timings, "peaks"):
        peaks = find_peaks(maps, means, settings.detection_threshold, settings.max_num_people)
    with _timed(timings, "group"):
        people = group(
            peaks,
            settings.tag_threshold,
            settings.max_num_people,
            settings.use_detection_val,
            settings.ignore_too_much,
        )
    with _timed(timings, "adjust"):
        if settings.adjust:
            who, joints = np.nonzero(people[:, :, 2] > 0)
            people[who, joints, :2] = subpixel_positions(maps, joints, people[who, joints, :2].astype(np.int64))
    scores = np.array([person[:, 2].mean() for person in people], np.float32)
    with _timed(timings, "refine"):
        if settings.refine:
            refine(maps, means, people)
    return People(people, scores)


@contextlib.contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + 1000 * (time.perf_counter() - begun)


def to_image(
    keypoints: np.ndarray, center: Sequence[float], scale: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Convert x and y of keypoints [P, 17, K], including the zeros of missing joints, to pixels of the image; a copy.

    size: width and height of the network's input; center: the input's centre in the image, pixels; scale: width and
    height of the part of the image that the input shows, in units of 200 pixels of the image. Both axes are scaled by
    the width's factor.
    """
    width, height = size
    placed = keypoints.copy()
    middle = np.array([width / 2, height / 2])
    placed[..., :2] = (keypoints[..., :2] - middle) * (200.0 * scale[0] / width) + np.asarray(center, np.float64)
    return placed
