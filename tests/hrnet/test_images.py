"""Pixel arithmetic equals the steps of the model zoo and of PaddleClas to the bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from hrnet import images
from hrnet.config import CONFIGS, load_config
from hrnet.schemas import INTERPOLATIONS, RESIZERS
from tests.support import reference_pixels

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CV2 = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def transform(
    short: int, width: int, height: int, resizer: str = "pillow", interpolation: str = "bilinear"
) -> images.Transform:
    return images.Transform(width, height, short, resizer, interpolation, reference_pixels.MEAN, reference_pixels.STD)


SIZES = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.sampled_from([32, 33, 64]), st.sampled_from([28, 64]), st.sampled_from(INTERPOLATIONS))
@example(1, 1, 64, 28, "bilinear")
@example(33, 67, 32, 28, "bilinear")  # more than twice as high as wide
@example(67, 33, 32, 28, "bicubic")
@example(3, 500, 33, 28, "bilinear")
@example(500, 3, 33, 28, "bicubic")
@example(32, 32, 32, 28, "bilinear")
@example(32, 80, 32, 28, "bilinear")
@example(80, 32, 32, 28, "bicubic")
@example(35, 36, 32, 31, "bilinear")  # half a pixel goes to the even neighbour: 0.5 to 0
@example(37, 32, 32, 30, "bilinear")  # 3.5 to 4
def test_resize_and_crop_equal_the_model_zoo(
    width: int, height: int, short: int, crop: int, interpolation: str
) -> None:
    pixels = noise(width, height)
    mine = transform(short, crop, crop, interpolation=interpolation).crop(pixels)
    theirs = reference_pixels.centre_crop(
        reference_pixels.resize(Image.fromarray(pixels), short, PILLOW[interpolation]), crop
    )
    assert mine.dtype == np.uint8
    assert np.array_equal(mine, np.asarray(theirs))


def test_half_pixels_of_a_crop_are_rounded_to_even() -> None:
    pixels = noise(35, 37)
    assert np.array_equal(transform(35, 32, 32).crop(pixels), pixels[2:34, 2:34])
    assert np.array_equal(transform(35, 10, 4).crop(pixels), pixels[16:20, 12:22])
    assert np.array_equal(transform(35, 32, 32, "cv2").crop(pixels), pixels[2:34, 1:33])
    assert np.array_equal(transform(35, 10, 4, "cv2").crop(pixels), pixels[16:20, 12:22])


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES, st.sampled_from([32, 33, 64]), st.integers(1, 32), st.integers(1, 32), st.sampled_from(list(CV2)))
@example(1, 1, 64, 28, 28, "bilinear")
@example(65, 64, 32, 32, 32, "bilinear")  # 32.5 pixels are rounded to 32
@example(64, 67, 32, 32, 32, "bicubic")  # 33.5 to 34
@example(64, 128, 32, 31, 30, "bilinear")  # half of both sides: OpenCV averages
@example(3, 500, 33, 28, 27, "bilinear")
@example(500, 3, 33, 28, 27, "bicubic")
@example(32, 32, 32, 32, 32, "bilinear")
def test_cv2_equals_paddleclas(
    width: int, height: int, short: int, crop_width: int, crop_height: int, interpolation: str
) -> None:
    pixels = noise(width, height)
    mine = transform(short, crop_width, crop_height, "cv2", interpolation)
    expected = reference_pixels.paddleclas_crop(pixels, short, (crop_width, crop_height), CV2[interpolation])
    assert np.array_equal(mine.to_input(pixels, "uint8"), expected)
    found = mine.to_input(pixels, "float32")
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)
    assert found.tobytes() == reference_pixels.paddleclas_normalise(expected).tobytes()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (1024, 683), (224, 224), (100, 80), (256, 999)])
def test_cv2_at_the_size_of_imagenet(size: tuple[int, int], interpolation: str) -> None:
    pixels = noise(*size)
    expected = reference_pixels.paddleclas_crop(pixels, 256, (224, 224), CV2[interpolation])
    assert np.array_equal(transform(256, 224, 224, "cv2", interpolation).crop(pixels), expected)


@pytest.mark.parametrize(
    ("size", "short", "pillow", "cv2_size"),
    [
        ((65, 64), 32, (32, 32), (32, 32)),
        ((67, 64), 32, (33, 32), (34, 32)),
        ((64, 67), 32, (32, 33), (32, 34)),
        ((500, 375), 256, (341, 256), (341, 256)),
        ((375, 500), 235, (235, 313), (235, 313)),
        ((333, 500), 256, (256, 384), (256, 384)),
        ((500, 331), 256, (386, 256), (387, 256)),
    ],
)
def test_the_resized_size(
    size: tuple[int, int], short: int, pillow: tuple[int, int], cv2_size: tuple[int, int]
) -> None:
    """pillow cuts the long side, cv2 rounds it, half pixels to the even neighbour."""
    assert transform(short, 32, 32).resized(*size) == pillow
    assert transform(short, 32, 32, "cv2").resized(*size) == cv2_size


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_setting_changes_the_pixels(interpolation: str) -> None:
    """Pillow averages where it makes an image smaller, OpenCV does not."""
    pixels = noise(300, 200)
    kinds = [transform(64, 64, 64, resizer, interpolation).crop(pixels) for resizer in RESIZERS]
    kinds.append(transform(72, 64, 64, "pillow", interpolation).crop(pixels))
    assert len({kind.tobytes() for kind in kinds}) == len(kinds)
    spread = [kind.std() for kind in kinds]
    assert spread[1] > 1.5 * spread[0]


def test_a_transform_is_that_of_its_config() -> None:
    found = images.Transform.of(load_config(CONFIGS / "hrnet_w48_ssld.yaml"))
    assert found == transform(256, 224, 224, "cv2")


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
