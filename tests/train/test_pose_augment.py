"""train/pose_augment.py: joints and masks go where the pixels go, within bounds, as upstream moves them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from hrnet import schemas
from hrnet.pose.joints import COUNT, MIRRORED
from tests.train.upstream_training import upstream
from train import pose_augment
from train.pose_augment import Motion

SIDE = 64
SAME = Motion(SIDE / 2, SIDE / 2, SIDE, 1, 0, False)  # a picture of SIDE x SIDE stays as it is
MOTIONS = st.builds(
    Motion,
    x=st.floats(40, 80),
    y=st.floats(30, 70),
    width=st.floats(50, 160),
    stretch=st.just(1.0),
    degrees=st.floats(-45, 45),
    mirrored=st.booleans(),
)


def dataset(**keys: object) -> CfgNode:
    node = schemas.pose().DATASET
    for key, value in keys.items():
        node[key] = value
    return node


def at(places: np.ndarray) -> np.ndarray:
    """Joints [1, n, 3] at places [n, 2], all marked."""
    return np.concatenate([places, np.ones((len(places), 1))], axis=1)[None]


def test_one_motion_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    joints = at(np.random.default_rng(1).uniform(0, SIDE, (COUNT, 2)))
    assert np.array_equal(pose_augment.moved_picture(picture, SAME, SIDE), picture)
    np.testing.assert_allclose(pose_augment.moved_joints(joints, SAME, SIDE, MIRRORED), joints)
    assert np.array_equal(pose_augment.moved_mask(picture[..., 0] > 99, SAME, SIDE), picture[..., 0] > 99)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_mirror_image_s_mirror_image_is_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture, mirror = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), SAME._replace(mirrored=True)
    joints = at(rng.uniform(0, SIDE, (COUNT, 2)))
    once = pose_augment.moved_picture(picture, mirror, SIDE)
    moved = pose_augment.moved_joints(joints, mirror, SIDE, MIRRORED)
    assert not np.array_equal(once, picture) and not np.allclose(moved, joints)
    assert np.array_equal(pose_augment.moved_picture(np.ascontiguousarray(once), mirror, SIDE), picture)
    np.testing.assert_allclose(pose_augment.moved_joints(moved, mirror, SIDE, MIRRORED), joints, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(MOTIONS, st.integers(20, 100), st.integers(20, 80))
def test_joints_and_masks_follow_the_pixels(motion: Motion, x: int, y: int) -> None:
    """A white square around a joint stands around the joint afterwards, in the picture and in the mask.

    To a cell: cv2 turns and stretches about the middles of pixels, joints count from their corners."""
    picture = np.zeros((100, 120, 3), np.uint8)
    picture[y - 4 : y + 5, x - 4 : x + 5] = 255
    column, row = pose_augment.moved_joints(at(np.array([[x + 0.5, y + 0.5]])), motion, SIDE, [0])[0, 0, :2]
    reach = 10 * SIDE / motion.width  # of the square's corners, cells
    if not (reach <= column < SIDE - 1 - reach and reach <= row < SIDE - 1 - reach):
        return
    for found in (
        pose_augment.moved_picture(picture, motion, SIDE)[..., 0] / 255,
        1 - pose_augment.moved_mask(picture[..., 0] == 0, motion, SIDE),
    ):
        rows, columns = np.mgrid[:SIDE, :SIDE]
        middle = np.array([(found * columns).sum(), (found * rows).sum()]) / found.sum()
        np.testing.assert_allclose(middle + 0.5, [column, row], atol=0.8)


def test_beyond_the_picture_is_judged() -> None:
    found = pose_augment.moved_mask(np.zeros((SIDE, SIDE), bool), SAME._replace(x=SIDE / 2 + 10), SIDE)
    assert not found[:, : SIDE - 10].any() and found[:, SIDE - 10 :].all()


def test_left_and_right_change_places() -> None:
    joints = at(np.stack([np.arange(COUNT), np.zeros(COUNT)], axis=1))
    moved = pose_augment.moved_joints(joints, SAME._replace(mirrored=True), SIDE, MIRRORED)
    assert moved[0, 0, 0] == SIDE  # the nose stood at 0
    assert moved[0, 6, 0] == SIDE - 5  # the right shoulder is where the left one was


@given(st.integers(0, SIDE - 1), st.floats(0.01, 0.99))
def test_a_mirrored_joint_stays_in_the_cell_of_its_pixel(cell: int, part: float) -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[5, cell] = 255
    mirror = SAME._replace(mirrored=True)
    moved = pose_augment.moved_joints(at(np.array([[cell + part, 5.5]])), mirror, SIDE, [0])[0, 0]
    assert pose_augment.moved_picture(picture, mirror, SIDE)[int(moved[1]), int(moved[0]), 0] == 255


def test_a_turn_is_clockwise() -> None:
    moved = pose_augment.moved_joints(at(np.array([[42.0, 32.0]])), SAME._replace(degrees=90), SIDE, [0])
    np.testing.assert_allclose(moved[0, 0, :2], [32, 22], atol=1e-9)


def test_motions_keep_to_the_bounds() -> None:
    keys = {"MAX_ROTATION": 30, "MIN_SCALE": 0.75, "MAX_SCALE": 1.5, "MAX_TRANSLATE": 40, "FLIP": 0.5}
    rng = np.random.default_rng(0)
    drawn = [pose_augment.random_motion(rng, 400, 200, dataset(**keys)) for _ in range(500)]
    stretches, degrees, right = np.array([(motion.stretch, motion.degrees, motion.x) for motion in drawn]).T
    assert stretches.min() >= 0.75 and stretches.max() <= 1.5 and np.ptp(stretches) > 0.7
    assert np.abs(degrees).max() <= 30 and np.ptp(degrees) > 55
    assert [motion.width for motion in drawn] == pytest.approx(200 * stretches)
    assert (np.abs(right - 200) <= 40 * stretches).all() and np.ptp(right) > 80
    assert 200 < sum(motion.mirrored for motion in drawn) < 300
    still = dataset(MAX_ROTATION=0, MIN_SCALE=1.0, MAX_SCALE=1.0, MAX_TRANSLATE=0, FLIP=0.0, SCALE_TYPE="long")
    assert pose_augment.random_motion(rng, 400, 200, still) == Motion(200, 100, 400, 1, 0, False)


@pytest.mark.slow
@pytest.mark.parametrize("scale_type", ["short", "long"])
@pytest.mark.parametrize("seed", range(10))
def test_pictures_joints_and_masks_are_upstreams(seed: int, scale_type: str, monkeypatch: Any) -> None:
    """Upstream's transforms, which draw their numbers one after the other, given those of our motion."""
    theirs = upstream("dataset/transforms/transforms.py")
    rng = np.random.default_rng(seed)
    width, height = rng.integers(80, 300, 2).tolist()
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = rng.random((height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width] < 0.7
    joints = np.concatenate([rng.uniform(0, 200, (4, COUNT, 2)), rng.integers(0, 3, (4, COUNT, 1))], axis=2)
    motion = pose_augment.random_motion(rng, width, height, dataset(SCALE_TYPE=scale_type))

    shares = iter([(motion.stretch - 0.75) / 0.5, (motion.degrees / 30 + 1) / 2])
    shifts = iter([round(motion.x - width / 2), round(motion.y - height / 2)])
    monkeypatch.setattr(np.random, "random", lambda: next(shares))
    monkeypatch.setattr(np.random, "randint", lambda low, high: next(shifts))
    monkeypatch.setattr(random, "random", lambda: 0.0 if motion.mirrored else 1.0)
    outputs = [SIDE // 4, SIDE // 2]
    chain = theirs.Compose(
        [
            theirs.RandomAffineTransform(SIDE, outputs, 30, 0.75, 1.25, scale_type, 40),
            theirs.RandomHorizontalFlip(list(MIRRORED), outputs, 0.5),
        ]
    )
    moved, masks, placed = chain(picture, [mask.copy() for _ in outputs], [joints.copy() for _ in outputs])
    differ = np.abs(pose_augment.moved_picture(picture, motion, SIDE).astype(int) - moved)
    assert (differ > 0).mean() < 0.002 and differ.max() <= 8  # a last bit of the matrix may choose another 1/32 pixel
    for side, their_mask, their_joints in zip(outputs, masks, placed):
        white = np.full((height, width, 3), 255, np.uint8)
        inside = pose_augment.moved_picture(white, motion, side)[..., 0] > 127
        our_mask = pose_augment.moved_mask(mask, motion, side)
        assert (our_mask[inside] == their_mask[inside]).mean() > 0.99
        assert (our_mask[pose_augment.moved_picture(white, motion, side)[..., 0] == 0] == 1).all()
        their_joints[:, :, 0] += motion.mirrored  # they count in whole cells
        found = pose_augment.moved_joints(joints, motion, side, MIRRORED)
        np.testing.assert_allclose(found, their_joints, rtol=1e-9, atol=1e-9)
