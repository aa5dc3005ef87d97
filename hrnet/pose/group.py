"""Group the peaks of all joints to people by their tags.

Joints are processed one after another. Each peak is assigned to the person with the nearest mean tag, or starts a new
person if no tag is near enough. Peaks and people are matched by an assignment with the lowest total cost: the rounded
tag distance counts first, then the heatmap value.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/group.py (match_by_tag), after
A. Newell, Z. Huang, J. Deng: Associative Embedding, https://arxiv.org/abs/1611.05424.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrnet.pose.assign import assign
from hrnet.pose.joints import COUNT, GROUPING_ORDER
from hrnet.pose.peaks import Peaks

NEW_PERSON_COST = 1e10  # cost of starting a new person if there are more peaks than people


def group(
    peaks: Sequence[Peaks], tag_threshold: float, most: int, use_detection_val: bool, ignore_too_much: bool
) -> np.ndarray:
    """Group the peaks of 17 joints to people: float32 [P, 17, 3 + D] of x, y (integer pixels), heatmap value and tags;
    zeros for each joint that a person lacks. Only the first `most` people can get further joints.

    use_detection_val: round distances to integers, and prefer higher peaks at equal distance; ignore_too_much: ignore
    the peaks of all further joints once there are `most` people.
    """
    people: dict[float, np.ndarray] = {}  # key: first tag of the person's first peak
    tags_of: dict[float, list[np.ndarray]] = {}

    def start_person(joint: int, row: np.ndarray, tags: np.ndarray) -> None:
        people.setdefault(tags[0], np.zeros((COUNT, row.size)))[joint] = row
        tags_of[tags[0]] = [tags]

    for joint in GROUPING_ORDER:
        found = peaks[joint]
        rows = np.concatenate([found.xy, found.values[:, None], found.tags], axis=1, dtype=np.float64)
        if not len(rows):
            continue
        candidates = list(people)[:most]
        if ignore_too_much and len(candidates) == most:
            continue
        if not candidates:
            for row, tags in zip(rows, found.tags):
                start_person(joint, row, tags)
            continue
        means = np.array([np.mean(tags_of[person], axis=0) for person in candidates])
        distances = np.linalg.norm(rows[:, None, 3:] - means[None], ord=2, axis=2)
        costs = np.round(distances) * 100 - rows[:, 2:3] if use_detection_val else distances
        surplus = len(rows) - len(candidates)
        if surplus > 0:
            costs = np.concatenate([costs, np.full((len(rows), surplus), NEW_PERSON_COST)], axis=1)
        for i, person in assign(costs):
            if person < len(candidates) and distances[i, person] < tag_threshold:
                people[candidates[person]][joint] = rows[i]
                tags_of[candidates[person]].append(found.tags[i])
            else:
                start_person(joint, rows[i], found.tags[i])
    size = 3 + peaks[0].tags.shape[1]
    return np.array(list(people.values()), np.float32).reshape(len(people), COUNT, size)
