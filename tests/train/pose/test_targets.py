"""train/pose/targets.py: the values of heatmaps, masks and tag indices, and a comparison with upstream's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose.joints import COUNT
from tests.train.pose.configs import dataset
from tests.train.upstream_training import upstream
from train.pose import targets
from train.pose.targets import NONE

SIDE = 24


def joints_from(*labelled: tuple[float, ...], count: int = 3) -> np.ndarray:
    """One person whose first joints are these."""
    return np.array([[*labelled, *[(0, 0, 0)] * (count - len(labelled))]], dtype=np.float64)


def scene(seed: int, people: int) -> np.ndarray:
    """People whose joints are in a map of SIDE cells, near its border, or beyond it."""
    rng = np.random.default_rng(seed)
    joints = np.concatenate(
        [rng.uniform(-6, SIDE + 6, (people, COUNT, 2)), rng.integers(0, 3, (people, COUNT, 1))], axis=2
    )
    joints[rng.random(joints.shape[:2]) < 0.1, :2] = -0.5  # less than a cell outside
    return joints


def test_the_values_of_a_gaussian() -> None:
    (found, empty, _) = targets.heatmaps(joints_from((10.9, 3.2, 1)), np.array([2.0]), SIDE)
    assert found.dtype == np.float32 and not empty.any()
    assert found[3, 10] == 1  # row 3.2 and column 10.9 without their fractions
    assert found[3, 11] == found[4, 10] == np.float32(np.exp(-1 / 8))
    assert found[5, 12] == np.float32(np.exp(-8 / 8))
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 10, 3, 17)  # up to 7 cells in each direction


def test_two_gaussians_give_the_maximum() -> None:
    two = np.concatenate([joints_from((5, 5, 2)), joints_from((7, 5, 1))])
    found = targets.heatmaps(two, np.array([2.0, 1.0]), SIDE)[0]
    assert found[5, 5] == found[5, 7] == 1
    assert found[5, 6] == np.float32(np.exp(-1 / 8)), "1/8 for the wide Gaussian, 1/2 for the narrow one"


@pytest.mark.parametrize("x, y, flag", [(5, 5, 0), (-1, 5, 1), (5, SIDE, 1), (SIDE + 30, 5, 2)])
def test_unlabelled_joints_and_those_beyond_the_map_have_no_target(x: float, y: float, flag: int) -> None:
    joints = joints_from((x, y, flag))
    assert not targets.heatmaps(joints, np.array([2.0]), SIDE).any()
    assert (targets.tag_indices(joints, SIDE, 2, True) == NONE).all()


def test_indices_have_these_values() -> None:
    joints = np.concatenate([joints_from((2.7, 1.9, 1), (0, 0, 0), (23.9, 23.9, 2)), joints_from((-0.5, 0, 1))])
    assert targets.tag_indices(joints, SIDE, 3, True).tolist() == [
        [26, NONE, 2 * 576 + 575],
        [0, NONE, NONE],
        [NONE, NONE, NONE],
    ]
    assert targets.tag_indices(joints, SIDE, 1, False).tolist() == [[26, NONE, 575]]


SIGMAS = {
    "fixed": ({"SIGMA": 2}, [2, 2]),
    "of the map": ({"SIGMA": -1}, [SIDE / 64] * 2),
    "of the person": ({"SCALE_AWARE_SIGMA": True}, [128 / 256 * 2 / 1.25, 320 / 256 * 2 / 1.25]),
    "of the person, an integer": ({"SCALE_AWARE_SIGMA": True, "INT_SIGMA": True}, [2 / 1.25, 3 / 1.25]),
    "of another base": ({"SCALE_AWARE_SIGMA": True, "BASE_SIZE": 64.0, "BASE_SIGMA": 1.0}, [2 / 1.25, 5 / 1.25]),
}


@pytest.mark.parametrize("kind", SIGMAS)
def test_sigmas_follow_the_config(kind: str) -> None:
    keys, expected = SIGMAS[kind]
    people = [{"bbox": [0, 0, 128, 64]}, {"bbox": [5, 5, 10, 320]}]
    assert targets.sigmas_of(people, dataset(**keys), SIDE, 1.25).tolist() == pytest.approx(expected)


def person(joints: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {"num_keypoints": joints, "segmentation": segmentation, "iscrowd": crowd, "keypoints": [1, 2, 2] * COUNT}


def test_the_mask_leaves_out_unlabelled_people_and_crowds() -> None:
    square = [[2, 1, 5, 1, 5, 3, 2, 3]]  # x, y of its corners
    runs = {"counts": [6 * 8 - 2, 2], "size": [6, 8]}  # column by column: the last two cells of the last one
    labelled, unlabelled, crowd = person(3, square), person(0, square), person(0, runs, crowd=1)
    assert targets.loss_mask([labelled], 8, 6).all()
    mask = targets.loss_mask([labelled, unlabelled, crowd], 8, 6)
    assert mask.shape == (6, 8) and mask.dtype == bool
    assert sorted(zip(*np.nonzero(~mask))) == [(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (4, 7), (5, 7)]
    assert targets.loss_mask([person(0, [])], 8, 6).all()  # too small for an outline
    assert targets.labelled_people([labelled, unlabelled, crowd]) == [labelled]


def test_joints_are_read_from_annotations() -> None:
    joints = targets.joints_of([person(17, [])], COUNT)
    assert joints.shape == (1, COUNT, 3) and joints[0, 5].tolist() == [1, 2, 2]
    assert targets.joints_of([], COUNT).shape == (0, COUNT, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5), st.sampled_from([1.0, 2.0, 3.0]))
def test_heatmaps_and_indices_agree(seed: int, people: int, sigma: float) -> None:
    """Each index is the top of a Gaussian, and each top has an index."""
    joints = scene(seed, people)
    maps = targets.heatmaps(joints, np.full(people, sigma), SIDE)
    indices = targets.tag_indices(joints, SIDE, 30, True)
    tops = np.flatnonzero(maps.reshape(-1) == 1)
    assert set(tops) == set(indices[indices != NONE].tolist())
    assert maps.max(initial=0) <= 1 and maps.min(initial=0) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [-1, 1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_maps_and_indices_equal_upstreams(seed: int, sigma: int) -> None:
    theirs = upstream("dataset/target_generators/target_generators.py")
    joints = scene(seed, 6)
    sigmas = targets.sigmas_of([{}] * 6, dataset(SIGMA=sigma), SIDE, 1)
    assert np.array_equal(targets.heatmaps(joints, sigmas, SIDE), theirs.HeatmapGenerator(SIDE, COUNT, sigma)(joints))
    for per_joint in (True, False):
        packed = theirs.JointsGenerator(30, COUNT, SIDE, per_joint)(joints)
        expected = [[int(index) for index, labelled in each if labelled] for each in packed]
        indices = targets.tag_indices(joints, SIDE, 30, per_joint)
        assert [[index for index in each if index != NONE] for each in indices.tolist()] == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_scale_aware_maps_equal_upstreams(seed: int) -> None:
    """Each person has its own sigma, not an integer after scaling."""
    theirs = upstream("dataset/target_generators/target_generators.py")
    joints = scene(seed, 6)
    sigmas = np.random.default_rng(seed).uniform(0.4, 4, 6)
    with_sigmas = np.concatenate([joints, np.broadcast_to(sigmas[:, None, None], (6, COUNT, 1))], axis=2)
    expected = theirs.ScaleAwareHeatmapGenerator(SIDE, COUNT)(with_sigmas)
    np.testing.assert_allclose(targets.heatmaps(joints, sigmas, SIDE), expected, rtol=1e-6, atol=1e-9)
