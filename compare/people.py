"""Match the people that two stages found in an image, by COCO's object keypoint similarity (OKS).

Source: computeOks in https://github.com/cocodataset/cocoapi (PythonAPI/pycocotools/cocoeval.py). COCO takes a person's
area from the annotation. For people that a model found, it is the area of the box around their keypoints, as in
pycocotools' loadRes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from pycocotools.cocoeval import Params

from hrnet.io.coco import JOINTS

Person = dict[str, Any]  # a COCO result
SIGMAS = np.asarray(Params("keypoints").kpt_oks_sigmas)  # of the 17 joints


def similarities(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """OKS of each pair of people, [P, Q], 0 to 1. `before` [P, 17, 2], `after` [Q, 17, 2]: pixels of the image."""
    sides = before.max(axis=1, initial=-np.inf) - before.min(axis=1, initial=np.inf)
    areas = sides.prod(axis=1) + np.spacing(1)
    squares = ((before[:, None] - after[None]) ** 2).sum(axis=3)
    scaled = squares / (2 * SIGMAS) ** 2 / areas[:, None, None] / 2
    means: np.ndarray = np.exp(-scaled).mean(axis=2)
    return means


def matched(before: np.ndarray, after: np.ndarray, least: float = 0.5) -> list[float]:
    """The OKS of the people that both stages found. The most similar pair is matched first, each person at most once,
    with an OKS of at least `least`."""
    table, found = similarities(before, after), []
    while table.size and table.max() >= least:
        i, j = np.unravel_index(table.argmax(), table.shape)
        found.append(float(table[i, j]))
        table[i], table[:, j] = -1.0, -1.0
    return found


def by_image(people: Iterable[Person]) -> dict[int, list[Person]]:
    found: dict[int, list[Person]] = defaultdict(list)
    for person in people:
        found[person["image_id"]].append(person)
    return found


def points(people: list[Person]) -> np.ndarray:
    """float [P, 17, 2]: the keypoints of people, pixels of the image."""
    return np.array([person["keypoints"] for person in people], np.float64).reshape(-1, JOINTS, 3)[:, :, :2]
