"""AP of all images, of some and of resampled images, compared with pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose.average_precision import FIGURES, Detections, evaluate, ground_truth
from tests.support.coco_scenes import exact, results, scene

IDS = [10, 20, 30, 40, 50, 60]


def ap(dataset: dict[str, Any], people: list[dict[str, Any]], ids: list[int]) -> float:
    return float(evaluate(ground_truth(dataset), people, ids).stats[0])


def repeated(dataset: dict[str, Any], people: list[dict[str, Any]], counts: list[int]) -> tuple[Any, Any, list[int]]:
    """The data set with `counts[i]` copies of image i, and its results."""
    images, annotations, found = [], [], []
    for image, count in zip(dataset["images"], counts):
        for copy in range(count):
            new = 1000 * (copy + 1) + image["id"]
            images.append({**image, "id": new})
            for each in dataset["annotations"]:
                if each["image_id"] == image["id"]:
                    annotations.append({**each, "id": len(annotations) + 1, "image_id": new})
            found += [{**each, "image_id": new} for each in people if each["image_id"] == image["id"]]
    return {**dataset, "images": images, "annotations": annotations}, found, [image["id"] for image in images]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 4.0, 12.0]))
def test_ap_of_all_images_is_cocos(seed: int, blur: float) -> None:
    dataset = scene(seed, len(IDS), 5)
    evaluation = evaluate(ground_truth(dataset), results(dataset, seed, blur, digits=1), IDS)
    ours = Detections.from_evaluation(evaluation).average_precision(np.ones(len(IDS)))
    assert (-1 if np.isnan(ours) else ours) == pytest.approx(evaluation.stats[0], abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_ap_of_images_counted_several_times_is_cocos_of_copies(seed: int, counts: list[int]) -> None:
    dataset = scene(seed, len(IDS), 4)
    people = results(dataset, seed, 6.0)
    detections = Detections.from_evaluation(evaluate(ground_truth(dataset), people, IDS))
    ours = detections.average_precision(np.array(counts, dtype=float))
    copies, found, ids = repeated(dataset, people, counts)
    theirs = ap(copies, found, ids) if ids else -1.0
    assert (-1 if np.isnan(ours) else ours) == pytest.approx(theirs, abs=1e-12)


def test_ap_of_some_images_is_cocos_of_only_these() -> None:
    dataset = scene(3, len(IDS), 5)
    people = results(dataset, 3, 8.0)
    detections = Detections.from_evaluation(evaluate(ground_truth(dataset), people, IDS))
    for some in ([10], [20, 50], IDS[1:]):
        selected = [each for each in people if each["image_id"] in some]
        assert detections.subset_average_precision(some) == pytest.approx(ap(dataset, selected, some), abs=1e-12)


def test_exact_results_have_an_ap_of_1() -> None:
    dataset = scene(5, len(IDS), 5)
    stats = evaluate(ground_truth(dataset), exact(dataset), IDS).stats
    assert dict(zip(FIGURES, np.round(stats, 12))) == dict.fromkeys(FIGURES, 1.0)


def test_no_results_are_0_and_no_people_are_nan() -> None:
    dataset = scene(7, len(IDS), 5)
    evaluation = evaluate(ground_truth(dataset), [], IDS)
    assert evaluation.stats[0] == 0
    assert Detections.from_evaluation(evaluation).average_precision(np.ones(len(IDS))) == 0
    empty = {**dataset, "annotations": []}
    evaluation = evaluate(ground_truth(empty), [], IDS)
    detections = Detections.from_evaluation(evaluation)
    assert evaluation.stats[0] == -1
    assert np.isnan(detections.average_precision(np.ones(len(IDS))))
    assert np.isnan(detections.interval95()).all()


def test_the_results_are_not_changed() -> None:
    dataset = scene(9, len(IDS), 3)
    people = results(dataset, 9, 3.0)
    keys = [set(each) for each in people]
    evaluate(ground_truth(dataset), people, IDS)
    assert [set(each) for each in people] == keys


def test_the_interval_holds_the_ap_and_narrows_with_more_images() -> None:
    few, many = scene(11, 6, 4), scene(11, 60, 4)
    widths = []
    for dataset in (few, many):
        ids = [image["id"] for image in dataset["images"]]
        detections = Detections.from_evaluation(evaluate(ground_truth(dataset), results(dataset, 11, 8.0), ids))
        low, high = detections.interval95()
        assert low <= detections.average_precision(np.ones(len(ids))) <= high
        assert (low, high) == detections.interval95()
        widths.append(high - low)
    assert widths[1] < widths[0]
