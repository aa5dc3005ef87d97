"""Peaks to people, by their tags.

Joint after joint, each peak goes to the person whose mean tag is nearest, where that is near enough, else begins a
person of its own; who gets which peak is an assignment of least cost, in which whole steps of distance count before
heights.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/group.py (match_by_tag), after
A. Newell, Z. Huang, J. Deng: Associative Embedding, https://arxiv.org/abs/1611.05424.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrnet.pose.assign import assign
from hrnet.pose.joints import COUNT, GROUPING_ORDER
from hrnet.pose.peaks import Peaks

UNLIKELY = 1e10  # the cost of beginning a person, where there are more peaks than people


def group(
    peaks: Sequence[Peaks], tag_threshold: float, most: int, use_detection_val: bool, ignore_too_much: bool
) -> np.ndarray:
    """People of the peaks of 17 joints: float32 [P, 17, 3 + D] of x, y (whole pixels), height and tags; all zero where
    a person lacks a joint. Only the first `most` people are offered peaks of later joints.

    use_detection_val: distances are rounded to whole ones, and among equal ones the higher peak goes first;
    ignore_too_much: no peak begins a person once there are `most` of them.
    """
    people: dict[float, np.ndarray] = {}  # by the first tag of the peak that began the person
    tags_of: dict[float, list[np.ndarray]] = {}

    def begin(joint: int, row: np.ndarray, tags: np.ndarray) -> None:
        people.setdefault(tags[0], np.zeros((COUNT, row.size)))[joint] = row
        tags_of[tags[0]] = [tags]

    for joint in GROUPING_ORDER:
        found = peaks[joint]
        rows = np.concatenate([found.xy, found.values[:, None], found.tags], axis=1, dtype=np.float64)
        if not len(rows):
            continue
        offered = list(people)[:most]
        if ignore_too_much and len(offered) == most:
            continue
        if not offered:
            for row, tags in zip(rows, found.tags):
                begin(joint, row, tags)
            continue
        means = np.array([np.mean(tags_of[person], axis=0) for person in offered])
        distances = np.linalg.norm(rows[:, None, 3:] - means[None], ord=2, axis=2)
        costs = np.round(distances) * 100 - rows[:, 2:3] if use_detection_val else distances
        lacking = len(rows) - len(offered)
        if lacking > 0:
            costs = np.concatenate([costs, np.full((len(rows), lacking), UNLIKELY)], axis=1)
        for i, person in assign(costs):
            if person < len(offered) and distances[i, person] < tag_threshold:
                people[offered[person]][joint] = rows[i]
                tags_of[offered[person]].append(found.tags[i])
            else:
                begin(joint, rows[i], found.tags[i])
    size = 3 + peaks[0].tags.shape[1]
    return np.array(list(people.values()), np.float32).reshape(len(people), COUNT, size)
