"""compare/people.py: OKS compared with pycocotools, and which people are matched."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from compare.people import matched, similarities


def people(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 300, (count, 17, 2))


def coco(persons: np.ndarray) -> COCO:
    """Persons as annotations with the area of the box around their keypoints."""
    entries: list[dict[str, Any]] = []
    for number, person in enumerate(persons, 1):
        joints = np.concatenate([person, np.full((17, 1), 2)], axis=1).ravel().tolist()
        (x, y), (width, height) = person.min(axis=0), np.ptp(person, axis=0)
        box = {"bbox": [x, y, width, height], "area": width * height, "score": 1 / number, "iscrowd": 0, "ignore": 0}
        entries.append({"id": number, "image_id": 1, "category_id": 1, "keypoints": joints, "num_keypoints": 17, **box})
    found = COCO()
    found.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": entries}
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
    return found


def test_similarities_are_equal_to_those_of_pycocotools() -> None:
    before = people(3)
    after = before[[2, 0]] + np.random.default_rng(1).normal(0, 4, (2, 17, 2))
    evaluation = COCOeval(coco(before), coco(after), "keypoints")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    # `ious` has a row for each of the 2 detections, best first, and a column for each of the 3 annotations
    expected = np.asarray(evaluation.ious[1, 1]).T
    np.testing.assert_allclose(similarities(before, after), expected, rtol=1e-9)


def test_each_person_is_matched_once() -> None:
    before = people(3)
    near = before[0] + 0.5
    found = matched(before, np.stack([before[1], near, before[0]]))
    assert found == [1.0, 1.0], "the third is matched already"
    assert matched(before, before) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (0, 0)])
def test_images_without_people(counts: tuple[int, int]) -> None:
    assert matched(people(counts[0]), people(counts[1], 5)) == []
