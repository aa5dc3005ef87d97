"""COCO's joints."""

from __future__ import annotations

from hrnet.pose import joints


def test_flipping_exchanges_left_and_right_joints() -> None:
    assert joints.FLIPPED == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert joints.NAMES[joints.FLIPPED[9]] == "right_wrist"


def test_people_are_built_from_all_joints() -> None:
    assert sorted(joints.GROUPING_ORDER) == list(range(joints.COUNT)) == list(range(17))
    assert [joints.NAMES[k] for k in joints.GROUPING_ORDER[7:10]] == ["left_hip", "right_hip", "left_elbow"]


def test_the_skeleton_is_symmetric() -> None:
    lines = {frozenset(line) for line in joints.SKELETON}
    assert len(lines) == len(joints.SKELETON) == 19
    assert {frozenset(joints.FLIPPED[k] for k in line) for line in lines} == lines
