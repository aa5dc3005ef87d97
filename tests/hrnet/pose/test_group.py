"""Grouping of peaks to people, with peaks written as numbers."""

from __future__ import annotations

import numpy as np

from hrnet.pose.group import group
from hrnet.pose.joints import COUNT
from hrnet.pose.peaks import Peaks

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR = range(4)


def peaks_of(found: dict[int, list[tuple[int, float, float]]]) -> list[Peaks]:
    """Peaks of 17 joints from {joint: [(x, heatmap value, tag), …]}."""
    listed = [found.get(joint, []) for joint in range(COUNT)]
    return [
        Peaks(
            np.array([(x, 7) for x, _, _ in each], np.int64).reshape(-1, 2),
            np.array([height for _, height, _ in each], np.float32),
            np.array([tag for _, _, tag in each], np.float32).reshape(-1, 1),
        )
        for each in listed
    ]


def grouped(
    found: dict[int, list[tuple[int, float, float]]],
    tag_threshold: float = 1.0,
    most: int = 30,
    use_detection_val: bool = True,
    ignore_too_much: bool = False,
) -> list[dict[int, int]]:
    """The x of the joints of each person."""
    people = group(peaks_of(found), tag_threshold, most, use_detection_val, ignore_too_much)
    assert (people.dtype, people.shape[1:]) == (np.float32, (17, 4))
    return [{int(k): int(person[k, 0]) for k in np.flatnonzero(person[:, 2])} for person in people]


def test_no_peaks_give_no_people() -> None:
    assert grouped({}) == []


def test_each_peak_goes_to_the_nearest_tag() -> None:
    found = {NOSE: [(1, 0.9, 0.0), (2, 0.8, 5.0)], LEFT_EYE: [(3, 0.7, 5.2), (4, 0.6, 0.1)]}
    assert grouped(found) == [{NOSE: 1, LEFT_EYE: 4}, {NOSE: 2, LEFT_EYE: 3}]


def test_rows_are_position_value_and_tag() -> None:
    people = group(peaks_of({LEFT_EAR: [(3, 0.5, 2.5)]}), 1.0, 30, True, False)
    expected = np.zeros((1, 17, 4), np.float32)
    expected[0, LEFT_EAR] = (3, 7, 0.5, 2.5)
    assert people.tolist() == expected.tolist()


def test_a_peak_with_a_distant_tag_starts_a_person() -> None:
    found = {NOSE: [(1, 0.9, 0.0)], LEFT_EYE: [(2, 0.8, 1.0)]}
    assert grouped(found) == [{NOSE: 1}, {LEFT_EYE: 2}]
    assert grouped(found, tag_threshold=1.01) == [{NOSE: 1, LEFT_EYE: 2}]


def test_among_equal_rounded_distances_the_higher_peak_goes_first() -> None:
    found = {NOSE: [(1, 0.9, 0.0)], LEFT_EYE: [(2, 0.8, 0.4), (3, 0.7, 0.1)]}
    assert grouped(found) == [{NOSE: 1, LEFT_EYE: 2}, {LEFT_EYE: 3}]
    assert grouped(found, use_detection_val=False) == [{NOSE: 1, LEFT_EYE: 3}, {LEFT_EYE: 2}]


def test_the_mean_tag_moves_with_each_joint() -> None:
    found = {NOSE: [(1, 0.9, 0.0)], LEFT_EYE: [(2, 0.8, 0.8)], RIGHT_EYE: [(3, 0.8, 1.3)]}
    assert grouped(found) == [{NOSE: 1, LEFT_EYE: 2, RIGHT_EYE: 3}]


def test_only_the_first_people_get_further_joints() -> None:
    found = {NOSE: [(1, 0.9, 0.0), (2, 0.8, 5.0)], LEFT_EYE: [(3, 0.7, 5.0), (4, 0.6, 0.0)]}
    # A peak with exactly the first tag of a person still goes to this person.
    assert grouped(found, most=1) == [{NOSE: 1, LEFT_EYE: 4}, {NOSE: 2, LEFT_EYE: 3}]
    found[LEFT_EYE][0] = (3, 0.7, 5.1)
    assert grouped(found, most=1) == [{NOSE: 1, LEFT_EYE: 4}, {NOSE: 2}, {LEFT_EYE: 3}]
    assert grouped(found, most=1, ignore_too_much=True) == [{NOSE: 1}, {NOSE: 2}]
