"""The pixel maths, to the bit, against the seed's own plain steps."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from hrnet import images
from tests.preprocess import reference


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


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
def test_resize_and_crop(width: int, height: int, short: int, crop: int) -> None:
    image = noise(width, height)
    mine = images.resize_and_crop(image, short, crop, crop)
    theirs = reference.centre_crop(reference.resize(image, short), crop)
    assert (mine.size, mine.tobytes()) == (theirs.size, theirs.tobytes())
    assert mine.size == (crop, crop)


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 80), st.integers(32, 80), st.integers(1, 32))
@example(35, 36, 32)  # half a pixel goes to the even neighbour: 1.5 to 2, 2 to 2
@example(37, 33, 32)  # 2.5 to 2, 0.5 to 0
def test_centre_crop(width: int, height: int, size: int) -> None:
    image = noise(width, height)
    mine, theirs = images.centre_crop(image, size, size), reference.centre_crop(image, size)
    assert (mine.size, mine.tobytes()) == ((size, size), theirs.tobytes())


def test_centre_crop_of_half_pixels() -> None:
    image = noise(35, 37)
    pixels = np.asarray(image)
    assert np.array_equal(np.asarray(images.centre_crop(image, 32, 32)), pixels[2:34, 2:34])
    assert np.array_equal(np.asarray(images.centre_crop(image, 10, 4)), pixels[16:20, 12:22])


@given(nps.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_normalise(pixels: np.ndarray) -> None:
    mine = images.normalise(pixels, images.normalise_table(reference.MEAN, reference.STD))
    assert (mine.dtype, mine.shape) == (np.float32, (3, *pixels.shape[:2]))
    assert mine.flags.c_contiguous
    assert mine.tobytes() == reference.normalise(pixels).tobytes()


def test_normalise_table_has_every_value_to_the_bit() -> None:
    pixels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)  # [1, 256, 3]
    table = images.normalise_table(reference.MEAN, reference.STD)
    assert (table.dtype, table.shape) == (np.float32, (3, 256))
    assert table.tobytes() == reference.normalise(pixels).tobytes()
    assert table[0, 0] == np.float32(-0.485) / np.float32(0.229)
