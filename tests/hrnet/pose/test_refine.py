"""The best pixel for a missing joint equals that of the whole map."""

from __future__ import annotations

import numpy as np
import pytest

from hrnet.pose import refine as module
from hrnet.pose.maps import Maps
from hrnet.pose.refine import Bounds, best_pixels, highest_indices, refine
from tests.hrnet.pose import plain
from tests.support.pose_scenes import KINDS, outputs_of


def centres_of(random: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    return random.uniform(-2, 8, (count, dimensions)).astype(np.float32)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_best_pixels_equal_those_of_the_whole_map(kind: str, flip: bool) -> None:
    outputs, outputs_flip = outputs_of(1, 6, 160, 128, kind)
    pair = (outputs, outputs_flip if flip else None)
    heat, tags = plain.whole_maps(*pair)
    maps = Maps(*pair)
    joints = np.random.default_rng(0).integers(0, 17, 30)
    centres = centres_of(np.random.default_rng(1), 30, maps.dimensions)
    centres[:3] = (1e4, -300, 30)[: maps.dimensions]  # so far that float32 rounds the differences of heat away
    found = best_pixels(maps, maps.mean(), joints, centres)
    expected = [plain.best_pixel(heat[k], tags[k], centre) for k, centre in zip(joints, centres)]
    assert found.tolist() == [list(xy) for xy in expected]


@pytest.mark.parametrize("ends", [(1,), (1, 2, 5)])
def test_the_whole_map_is_searched_after_the_last_round(ends: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    maps = Maps(*outputs_of(1, 6, 160, 128, "noise"))
    joints, centres = np.arange(17), centres_of(np.random.default_rng(1), 17, 2)
    expected = best_pixels(maps, maps.mean(), joints, centres)
    monkeypatch.setattr(module, "ENDS", ends)
    assert best_pixels(maps, maps.mean(), joints, centres).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_exceeds_its_bound(kind: str) -> None:
    pair = outputs_of(2, 6, 160, 128, kind)
    heat, tags = plain.whole_maps(*pair)
    maps = Maps(*pair)
    for joint in (0, 9):
        bounds = Bounds(maps, maps.mean()[joint], joint)
        for centre in centres_of(np.random.default_rng(2), 5, 2):
            scores = heat[joint] - np.round(((tags[joint] - centre) ** 2).sum(axis=2) ** 0.5)
            best = scores.reshape(32, 4, 40, 4).max(axis=(1, 3)).reshape(-1)
            blocks, upper = bounds.reaching(-np.inf, centre)
            assert sorted(blocks.tolist()) == list(range(len(best)))
            assert (best[blocks] <= upper).all()
            some, _ = bounds.reaching(np.sort(best)[-5], centre)
            assert set(np.argsort(best)[-5:]) <= set(some) and len(some) < len(best)


def test_only_missing_joints_are_filled() -> None:
    pair = outputs_of(4, 1, 160, 128)
    heat, tags = plain.whole_maps(*pair)
    maps = Maps(*pair)
    people = np.zeros((1, 17, 5), np.float32)
    people[0, 5] = (10.25, 20.75, 0.9, 0.5, 0.25)
    people[0, 6] = (30.25, 20.75, 0.8, 0.0, 0.75)
    before = people.copy()
    refine(maps, maps.mean(), people)
    assert people[0, 5:7].tolist() == before[0, 5:7].tolist()
    for joint in (0, 16):
        x, y = plain.best_pixel(heat[joint], tags[joint], np.array([0.25, 0.5], np.float32))
        assert people[0, joint].tolist() == [*plain.quarter(heat[joint], x, y), heat[joint, y, x], 0, 0]


def test_an_empty_map_leaves_the_joint_missing() -> None:
    outputs = np.zeros((1, 34, 32, 32), np.float32), np.zeros((1, 17, 64, 64), np.float32)
    maps = Maps(outputs)
    people = np.zeros((1, 17, 4), np.float32)
    people[0, 5] = (10.25, 20.75, 0.9, 0.5)
    before = people.copy()
    refine(maps, maps.mean(), people)
    assert people.tolist() == before.tolist()


def test_the_indices_of_the_highest_values_are_found() -> None:
    assert highest_indices(np.array([3, 9, 1, 7], np.float32), 2).tolist() == [1, 3]
    assert highest_indices(np.array([3, 9], np.float32), 5).tolist() == [1, 0]
    assert highest_indices(np.zeros(0, np.float32), 5).tolist() == []
