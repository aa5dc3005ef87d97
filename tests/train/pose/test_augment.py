"""train/pose/augment.py: joints and masks move with the pixels, within bounds, as upstream moves them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose.joints import COUNT, FLIPPED
from tests.train.pose.configs import dataset
from tests.train.upstream_training import upstream
from train.pose import augment
from train.pose.augment import Transform

SIDE = 64
SAME = Transform(SIDE / 2, SIDE / 2, SIDE, 1, 0, False)  # keeps an image of SIDE x SIDE as it is
MOTIONS = st.builds(
    Transform,
    x=st.floats(40, 80),
    y=st.floats(30, 70),
    width=st.floats(50, 160),
    stretch=st.just(1.0),
    degrees=st.floats(-45, 45),
    flip=st.booleans(),
)


def joints_at(points: np.ndarray) -> np.ndarray:
    """Joints [1, n, 3] at points [n, 2], all labelled."""
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)[None]


def test_the_identity_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    joints = joints_at(np.random.default_rng(1).uniform(0, SIDE, (COUNT, 2)))
    assert np.array_equal(augment.warp_image(image, SAME, SIDE), image)
    np.testing.assert_allclose(augment.transform_joints(joints, SAME, SIDE, FLIPPED), joints)
    assert np.array_equal(augment.warp_mask(image[..., 0] > 99, SAME, SIDE), image[..., 0] > 99)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_two_flips_restore_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, flip = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), SAME._replace(flip=True)
    joints = joints_at(rng.uniform(0, SIDE, (COUNT, 2)))
    once = augment.warp_image(image, flip, SIDE)
    moved = augment.transform_joints(joints, flip, SIDE, FLIPPED)
    assert not np.array_equal(once, image) and not np.allclose(moved, joints)
    assert np.array_equal(augment.warp_image(np.ascontiguousarray(once), flip, SIDE), image)
    np.testing.assert_allclose(augment.transform_joints(moved, flip, SIDE, FLIPPED), joints, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(MOTIONS, st.integers(20, 100), st.integers(20, 80))
def test_joints_and_masks_follow_the_pixels(transform: Transform, x: int, y: int) -> None:
    """A white square around a joint is around the joint afterwards, in the image and in the mask.

    The positions agree to within one cell: cv2 rotates and scales about the centres of pixels, but joints are measured
    from the corners of pixels."""
    image = np.zeros((100, 120, 3), np.uint8)
    image[y - 4 : y + 5, x - 4 : x + 5] = 255
    column, row = augment.transform_joints(joints_at(np.array([[x + 0.5, y + 0.5]])), transform, SIDE, [0])[0, 0, :2]
    reach = 10 * SIDE / transform.width  # of the square's corners, cells
    if not (reach <= column < SIDE - 1 - reach and reach <= row < SIDE - 1 - reach):
        return
    for found in (
        augment.warp_image(image, transform, SIDE)[..., 0] / 255,
        1 - augment.warp_mask(image[..., 0] == 0, transform, SIDE),
    ):
        rows, columns = np.mgrid[:SIDE, :SIDE]
        middle = np.array([(found * columns).sum(), (found * rows).sum()]) / found.sum()
        np.testing.assert_allclose(middle + 0.5, [column, row], atol=0.8)


def test_the_mask_includes_the_area_beyond_the_image() -> None:
    found = augment.warp_mask(np.zeros((SIDE, SIDE), bool), SAME._replace(x=SIDE / 2 + 10), SIDE)
    assert not found[:, : SIDE - 10].any() and found[:, SIDE - 10 :].all()


def test_a_flip_swaps_left_and_right_joints() -> None:
    joints = joints_at(np.stack([np.arange(COUNT), np.zeros(COUNT)], axis=1))
    moved = augment.transform_joints(joints, SAME._replace(flip=True), SIDE, FLIPPED)
    assert moved[0, 0, 0] == SIDE  # the nose was at 0
    assert moved[0, 6, 0] == SIDE - 5  # the right shoulder is where the left one was


@given(st.integers(0, SIDE - 1), st.floats(0.01, 0.99))
def test_a_flipped_joint_stays_in_the_cell_of_its_pixel(cell: int, part: float) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[5, cell] = 255
    flip = SAME._replace(flip=True)
    moved = augment.transform_joints(joints_at(np.array([[cell + part, 5.5]])), flip, SIDE, [0])[0, 0]
    assert augment.warp_image(image, flip, SIDE)[int(moved[1]), int(moved[0]), 0] == 255


def test_the_crop_is_rotated_clockwise() -> None:
    """The square that is cut out of the image is rotated clockwise, so its content appears rotated counterclockwise: a
    joint at the right of the centre is above it afterwards."""
    moved = augment.transform_joints(joints_at(np.array([[42.0, 32.0]])), SAME._replace(degrees=90), SIDE, [0])
    np.testing.assert_allclose(moved[0, 0, :2], [32, 22], atol=1e-9)


def test_random_transforms_are_within_the_bounds() -> None:
    keys = {"MAX_ROTATION": 30, "MIN_SCALE": 0.75, "MAX_SCALE": 1.5, "MAX_TRANSLATE": 40, "FLIP": 0.5}
    rng = np.random.default_rng(0)
    drawn = [augment.random_transform(rng, 400, 200, dataset(**keys)) for _ in range(500)]
    stretches, degrees, right = np.array([(transform.stretch, transform.degrees, transform.x) for transform in drawn]).T
    assert stretches.min() >= 0.75 and stretches.max() <= 1.5 and np.ptp(stretches) > 0.7
    assert np.abs(degrees).max() <= 30 and np.ptp(degrees) > 55
    assert [transform.width for transform in drawn] == pytest.approx(200 * stretches)
    assert (np.abs(right - 200) <= 40 * stretches).all() and np.ptp(right) > 80
    assert 200 < sum(transform.flip for transform in drawn) < 300
    still = dataset(MAX_ROTATION=0, MIN_SCALE=1.0, MAX_SCALE=1.0, MAX_TRANSLATE=0, FLIP=0.0, SCALE_TYPE="long")
    assert augment.random_transform(rng, 400, 200, still) == Transform(200, 100, 400, 1, 0, False)


@pytest.mark.slow
@pytest.mark.parametrize("scale_type", ["short", "long"])
@pytest.mark.parametrize("seed", range(10))
def test_images_joints_and_masks_equal_upstreams(seed: int, scale_type: str, monkeypatch: Any) -> None:
    """Upstream's transforms draw their random numbers one by one; here they get those of our transform."""
    theirs = upstream("dataset/transforms/transforms.py")
    rng = np.random.default_rng(seed)
    width, height = rng.integers(80, 300, 2).tolist()
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = rng.random((height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width] < 0.7
    joints = np.concatenate([rng.uniform(0, 200, (4, COUNT, 2)), rng.integers(0, 3, (4, COUNT, 1))], axis=2)
    transform = augment.random_transform(rng, width, height, dataset(SCALE_TYPE=scale_type))

    shares = iter([(transform.stretch - 0.75) / 0.5, (transform.degrees / 30 + 1) / 2])
    shifts = iter([round(transform.x - width / 2), round(transform.y - height / 2)])
    monkeypatch.setattr(np.random, "random", lambda: next(shares))
    monkeypatch.setattr(np.random, "randint", lambda low, high: next(shifts))
    monkeypatch.setattr(random, "random", lambda: 0.0 if transform.flip else 1.0)
    outputs = [SIDE // 4, SIDE // 2]
    chain = theirs.Compose(
        [
            theirs.RandomAffineTransform(SIDE, outputs, 30, 0.75, 1.25, scale_type, 40),
            theirs.RandomHorizontalFlip(list(FLIPPED), outputs, 0.5),
        ]
    )
    moved, masks, placed = chain(image, [mask.copy() for _ in outputs], [joints.copy() for _ in outputs])
    differ = np.abs(augment.warp_image(image, transform, SIDE).astype(int) - moved)
    # If the matrix is rounded differently, cv2 may select the next 1/32 pixel.
    assert (differ > 0).mean() < 0.002 and differ.max() <= 8
    for side, their_mask, their_joints in zip(outputs, masks, placed):
        white = np.full((height, width, 3), 255, np.uint8)
        inside = augment.warp_image(white, transform, side)[..., 0] > 127
        our_mask = augment.warp_mask(mask, transform, side)
        assert (our_mask[inside] == their_mask[inside]).mean() > 0.99
        assert (our_mask[augment.warp_image(white, transform, side)[..., 0] == 0] == 1).all()
        # Upstream flips x to side - 1 - x, like the index of a cell; ours is side - x.
        their_joints[:, :, 0] += transform.flip
        found = augment.transform_joints(joints, transform, side, FLIPPED)
        np.testing.assert_allclose(found, their_joints, rtol=1e-9, atol=1e-9)
