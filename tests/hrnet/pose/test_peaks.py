"""Peaks equal those of whole maps; equal peaks have the order of torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose import peaks
from hrnet.pose.maps import Maps
from hrnet.pose.peaks import find_peaks, partial_sort, subpixel_positions
from tests.hrnet.pose import plain
from tests.support.pose_scenes import outputs_of

THRESHOLD, MOST = 0.1, 30


def torch_order(values: np.ndarray, most: int) -> list[int]:
    torch = pytest.importorskip("torch")
    places: list[int] = torch.from_numpy(values)[None].topk(most, dim=1)[1][0].tolist()
    return places


@pytest.mark.parametrize("kind", ["plain", "near", "half", "steps", "noise"])
def test_peaks_equal_those_of_the_whole_map(kind: str) -> None:
    pair = outputs_of(3, 12, 160, 128, kind)
    heat, tags = plain.whole_maps(*pair)
    maps = Maps(*pair)
    found = find_peaks(maps, maps.mean(), THRESHOLD, MOST)
    tops = np.where(plain.is_peak(heat), heat, np.float32(0)).reshape(17, -1)
    for joint, mine in enumerate(found):
        places = [place for place in torch_order(tops[joint], MOST) if tops[joint, place] > THRESHOLD]
        y, x = np.divmod(places, 160) if places else np.zeros((2, 0), int)
        assert mine.xy.tolist() == np.stack([x, y], axis=1).tolist()
        assert mine.values.tobytes() == heat[joint, y, x].tobytes()
        assert mine.tags.tobytes() == tags[joint, y, x].tobytes()
    assert sum(len(mine.xy) for mine in found) > 50


def test_every_pixel_of_a_plateau_is_a_peak_also_at_the_border() -> None:
    outputs = np.zeros((1, 34, 32, 40), np.float32), np.zeros((1, 17, 64, 80), np.float32)
    for array in outputs:
        array[0, 5] = 0.5  # the whole map, more than MANY candidates
        array[0, 6, 0, 0] = array[0, 7, -1, -1] = 1.0
    maps = Maps(outputs)
    found = find_peaks(maps, maps.mean(), THRESHOLD, MOST)
    flat = np.full(128 * 160, 0.5, np.float32)
    assert [x + 160 * y for x, y in found[5].xy.tolist()] == torch_order(flat, MOST)
    assert found[6].xy.tolist() == [[0, 0]]
    assert found[7].xy.tolist() == [[159, 127]]
    assert [len(mine.xy) for mine in found[8:]] == [0] * 9


def test_a_value_equal_to_the_threshold_is_not_a_peak() -> None:
    outputs = np.zeros((1, 34, 32, 32), np.float32), np.zeros((1, 17, 64, 64), np.float32)
    outputs[0][0, 0] = outputs[1][0, 0] = 0.25
    outputs[0][0, 1] = outputs[1][0, 1] = np.nextafter(np.float32(0.25), np.float32(1))
    maps = Maps(outputs)
    assert [len(mine.xy) for mine in find_peaks(maps, maps.mean(), 0.25, MOST)[:2]] == [0, MOST]


@pytest.mark.parametrize("many", [-1, 10**6])
def test_a_float32_tenth_is_above_a_threshold_of_a_tenth(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "MANY", many)
    outputs = np.zeros((1, 34, 32, 32), np.float32), np.zeros((1, 17, 64, 64), np.float32)
    outputs[0][0, 0, :2, :2] = outputs[1][0, 0, :4, :4] = 0.1
    maps = Maps(outputs)
    found = find_peaks(maps, maps.mean(), 0.1, MOST)[0]
    assert len(found.xy) and set(found.values.tolist()) == {float(np.float32(0.1))}


def test_whole_maps_and_windows_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = Maps(*outputs_of(5, 10, 160, 128, "near"))
    by_windows = find_peaks(maps, maps.mean(), THRESHOLD, MOST)
    monkeypatch.setattr(peaks, "MANY", -1)
    by_maps = find_peaks(maps, maps.mean(), THRESHOLD, MOST)
    for one, other in zip(by_windows, by_maps):
        assert (one.xy.tolist(), one.values.tobytes()) == (other.xy.tolist(), other.values.tobytes())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 400), st.integers(1, 6))
def test_equal_values_are_sorted_as_by_torch(seed: int, most: int, filled: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    values = np.zeros(64 * 30, np.float32)
    values[random.integers(0, values.size, filled)] = random.integers(-2, levels, filled)
    assert partial_sort(values, most) == torch_order(values, most)


def test_subpixel_positions_equal_those_of_the_whole_map() -> None:
    pair = outputs_of(3, 5, 160, 128)
    heat, _ = plain.whole_maps(*pair)
    joints = np.arange(17)
    xy = np.random.default_rng(0).integers(0, (160, 128), (17, 2))
    xy[:4] = [(0, 0), (159, 0), (0, 127), (159, 127)]
    expected = [plain.quarter(heat[joint], x, y) for joint, (x, y) in zip(joints, xy.tolist())]
    found = subpixel_positions(Maps(*pair), joints, xy)
    assert found.dtype == np.float32
    assert found.tolist() == [list(place) for place in expected]
