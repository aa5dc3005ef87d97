"""AP of all images, of some and of resampled images, compared with pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose.average_precision import FIGURES, Detections, evaluate, ground_truth, keypoint_similarities
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
def test_ap_of_all_images_equals_pycocotools(seed: int, blur: float) -> None:
    dataset = scene(seed, len(IDS), 5)
    evaluation = evaluate(ground_truth(dataset), results(dataset, seed, blur, digits=1), IDS)
    ours = Detections.from_evaluation(evaluation).average_precision(np.ones(len(IDS)))
    assert (-1 if np.isnan(ours) else ours) == pytest.approx(evaluation.stats[0], abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_ap_of_images_counted_several_times_equals_pycocotools_on_copies(seed: int, counts: list[int]) -> None:
    dataset = scene(seed, len(IDS), 4)
    people = results(dataset, seed, 6.0)
    detections = Detections.from_evaluation(evaluate(ground_truth(dataset), people, IDS))
    ours = detections.average_precision(np.array(counts, dtype=float))
    copies, found, ids = repeated(dataset, people, counts)
    theirs = ap(copies, found, ids) if ids else -1.0
    assert (-1 if np.isnan(ours) else ours) == pytest.approx(theirs, abs=1e-12)


def test_ap_of_some_images_equals_pycocotools_on_only_these() -> None:
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


def test_similarities_of_keypoints_by_hand() -> None:
    """One person, with the nose 3 and 4 pixels off and one ear not labelled; COCO's sigmas of nose and wrist."""
    joints = [value for k in range(17) for value in (10.0 * k, 20.0, 0 if k == 4 else 2)]
    entry = {"id": 1, "image_id": 10, "category_id": 1, "iscrowd": 0, "area": 2000.0, "bbox": [0.0, 0.0, 200.0, 60.0]}
    truth = ground_truth(
        {
            "images": [{"id": 10, "width": 300, "height": 100}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [{**entry, "num_keypoints": 16, "keypoints": joints}],
        }
    )
    found = list(joints)
    found[0:2] = [3.0, 24.0]
    found[30] += 2.0  # x of the right wrist, joint 10
    people = [{"image_id": 10, "category_id": 1, "keypoints": found, "score": 0.9}]
    values, counts = keypoint_similarities(evaluate(truth, people, [10]))
    assert counts.tolist() == [1, 1, 1, 1, 0, *[1] * 12]
    assert np.isnan(values[4])
    expected = {0: np.exp(-25 / (2 * 2000 * (2 * 0.026) ** 2)), 10: np.exp(-4 / (2 * 2000 * (2 * 0.062) ** 2))}
    for joint in set(range(17)) - {4}:
        assert values[joint] == pytest.approx(expected.get(joint, 1.0)), joint


@pytest.mark.parametrize("seed", range(5))
def test_similarities_agree_with_cocos_oks(seed: int) -> None:
    """The mean over the labelled keypoints of a matched person is its OKS."""
    dataset = scene(seed, 1, 1)
    dataset["annotations"] = [each for each in dataset["annotations"] if each["num_keypoints"] and not each["iscrowd"]][
        :1
    ]
    evaluation = evaluate(ground_truth(dataset), results(dataset, seed, 2.0)[:1], IDS[:1])
    values, counts = keypoint_similarities(evaluation)
    oks = np.asarray(evaluation.ious[IDS[0], 1]).ravel()
    if oks.size == 0 or oks[0] < 0.5:
        assert not counts.any()
    else:
        assert np.average(values[counts > 0], weights=counts[counts > 0]) == pytest.approx(oks[0])


def test_without_matches_there_is_no_similarity() -> None:
    dataset = scene(3, 2, 2)
    values, counts = keypoint_similarities(evaluate(ground_truth(dataset), [], IDS[:2]))
    assert np.isnan(values).all() and not counts.any()


def test_ap_of_each_image_equals_pycocotools_on_only_this_image() -> None:
    dataset = scene(4, len(IDS), 4)
    people = results(dataset, 4, 6.0)
    alone = Detections.from_evaluation(evaluate(ground_truth(dataset), people, IDS)).image_average_precisions()
    for image_id, value in zip(IDS, alone):
        theirs = ap(dataset, [each for each in people if each["image_id"] == image_id], [image_id])
        assert (-1 if np.isnan(value) else value) == pytest.approx(theirs, abs=1e-12)
