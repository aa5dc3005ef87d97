"""Pixel arithmetic equals the model zoo's steps to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from hrnet import images
from tests.support import reference_pixels


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([32, 33, 64]), st.sampled_from([28, 64]))
@example(1, 1, 64, 28)
@example(33, 67, 32, 28)  # more than twice as high as wide
@example(67, 33, 32, 28)
@example(3, 500, 33, 28)
@example(500, 3, 33, 28)
@example(32, 32, 32, 28)
@example(32, 80, 32, 28)
@example(80, 32, 32, 28)
@example(35, 36, 32, 31)  # half a pixel goes to the even neighbour: 0.5 to 0
@example(37, 32, 32, 30)  # 3.5 to 4
def test_resize_and_crop_equal_the_model_zoo(width: int, height: int, short: int, crop: int) -> None:
    pixels = noise(width, height)
    mine = images.resize_and_crop(pixels, short, crop, crop)
    theirs = reference_pixels.centre_crop(reference_pixels.resize(Image.fromarray(pixels), short), crop)
    assert mine.dtype == np.uint8
    assert np.array_equal(mine, np.asarray(theirs))


def test_half_pixels_of_a_crop_are_rounded_to_even() -> None:
    pixels = noise(35, 37)
    assert np.array_equal(images.resize_and_crop(pixels, 35, 32, 32), pixels[2:34, 2:34])
    assert np.array_equal(images.resize_and_crop(pixels, 35, 10, 4), pixels[16:20, 12:22])


@given(nps.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_normalisation_equals_the_model_zoo(pixels: np.ndarray) -> None:
    mine = images.normalise(pixels, images.normalise_table(reference_pixels.MEAN, reference_pixels.STD))
    assert (mine.dtype, mine.shape) == (np.float32, (3, *pixels.shape[:2]))
    assert mine.flags.c_contiguous
    assert mine.tobytes() == reference_pixels.normalise(pixels).tobytes()


def test_normalise_table_has_every_value_to_the_bit() -> None:
    pixels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)  # [1, 256, 3]
    table = images.normalise_table(reference_pixels.MEAN, reference_pixels.STD)
    assert (table.dtype, table.shape) == (np.float32, (3, 256))
    assert table.tobytes() == reference_pixels.normalise(pixels).tobytes()
    assert table[0, 0] == np.float32(-0.485) / np.float32(0.229)


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([(512, 768), (1024, 512), (128, 128)]))
def test_affine_keeps_angles_and_fits_the_short_side(width: int, height: int, size: tuple[int, int]) -> None:
    upright = width < height
    size = (min(size), max(size)) if upright else (max(size), min(size))
    center, scale = images.alignment(width, height, size)
    matrix = images.affine(center, scale, size)
    factor = min(size) / min(width, height)
    reach = max(width, height, *size)
    assert np.allclose(matrix[:, :2], factor * np.eye(2), atol=1e-5 * max(1.0, factor))
    assert np.allclose(matrix @ [*center, 1], np.array(size) / 2, atol=1e-4 * reach * max(1.0, factor))
    assert np.allclose(np.array(scale) * 200 * factor, size)
    assert center == [(width + 1) // 2, (height + 1) // 2]


def test_affine_equals_upstream_on_an_image() -> None:
    """What upstream's get_affine_transform gives for 640 x 426 pixels in 832 x 512."""
    center, scale = images.alignment(640, 426, (832, 512))
    assert (center, scale) == ([320.0, 213.0], [3.46125, 2.13])
    upstream = [[1.2018779342723005, 0, 31.39906103286386], [0, 1.2018779342723005, 0]]
    assert np.allclose(images.affine(center, scale, (832, 512)), upstream, rtol=0, atol=1e-12)


def test_resize_align_pads_with_black() -> None:
    pixels = np.full((100, 150, 3), 200, np.uint8)
    resized = images.resize_align(pixels, *images.alignment(150, 100, (192, 64)), (192, 64))
    assert resized.shape == (64, 192, 3)
    assert (resized[:, 50:142] == 200).all()
    assert not resized[:, :46].any()
    assert not resized[:, 146:].any()


def test_resize_align_crops_both_ends() -> None:
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, 32:160] = 255
    resized = images.resize_align(pixels, *images.alignment(192, 64, (128, 64)), (128, 64))
    assert (resized[:, 1:-1] == 255).all()
