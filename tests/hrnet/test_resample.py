"""Resizing equals Pillow to the bit."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet import resample

compiled = pytest.mark.skipif(not resample.COMPILED, reason="hrnet/_resample.c was not compiled: no compiler at setup")
FACTORS = st.floats(0.01, 4)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """One half is only black and white, which gives the sums nearest to an overflow."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
    pixels[: height // 2] = np.where(pixels[: height // 2] > 127, 255, 0)
    return pixels


def by_pillow(pixels: np.ndarray, size: tuple[int, int], method: int = Image.Resampling.BILINEAR) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, method))


@compiled
def test_the_compiled_code_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "Image", None)
    assert resample.resize_part(noise(40, 30), (20, 15), 0, 0, 20, 15).shape == (15, 20, 3)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), FACTORS, st.none() | FACTORS, st.integers(0, 9), st.data())
@example(500, 375, 256 / 375, None, 0, None)
@example(333, 500, 256 / 333, None, 0, None)
@example(100, 200, 0.64, None, 0, None)
@example(100, 201, 0.64, None, 0, None)  # the height shrinks by 73 pixels, the width by 36
@example(2, 4, 0.25, None, 0, None)  # to one pixel
@example(100, 100, 0.9, 0.1, 0, None)
@example(1, 1, 4.0, None, 0, None)
def test_any_part_equals_pillow(
    width: int, height: int, factor: float, factor_y: Optional[float], seed: int, data: Optional[st.DataObject]
) -> None:
    pixels = noise(width, height, seed)
    size = (max(1, int(width * factor)), max(1, int(height * (factor_y or factor))))
    left, top, right, bottom = 0, 0, *size
    if data is not None:
        left, top = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
        right, bottom = data.draw(st.integers(left + 1, size[0])), data.draw(st.integers(top + 1, size[1]))
    part = resample.resize_part(pixels, size, left, top, right - left, bottom - top)
    assert np.array_equal(part, by_pillow(pixels, size)[top:bottom, left:right])


@pytest.mark.parametrize("compiled", [False, resample.COMPILED])
def test_results_are_equal_without_the_compiled_code(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "COMPILED", compiled)
    pixels = noise(500, 375)
    part = resample.resize_part(pixels, (341, 256), 58, 16, 224, 224)
    assert np.array_equal(part, by_pillow(pixels, (341, 256))[16:240, 58:282])


def test_a_bicubic_part_equals_pillow() -> None:
    pixels = noise(500, 375)
    part = resample.resize_part(pixels, (341, 256), 58, 16, 224, 224, "bicubic")
    assert np.array_equal(part, by_pillow(pixels, (341, 256), Image.Resampling.BICUBIC)[16:240, 58:282])


def test_pixels_outside_the_image_are_black() -> None:
    part = resample.resize_part(noise(40, 30), (20, 15), -2, -1, 24, 17)
    assert not part[0].any()
    assert not part[:, -2:].any()
    assert np.array_equal(part[1:16, 2:22], by_pillow(noise(40, 30), (20, 15)))


def test_strided_pixels_are_resized() -> None:
    pixels = noise(80, 60)[::2, ::2]
    assert np.array_equal(resample.resize_part(pixels, (20, 15), 0, 0, 20, 15), by_pillow(pixels.copy(), (20, 15)))


@pytest.mark.parametrize("source, resized", [(375, 256), (500, 341), (64, 256), (1, 9), (9, 1), (256, 256)])
def test_weights_sum_to_one(source: int, resized: int) -> None:
    first, weights = resample.weights(source, resized, 0, resized)
    assert (first.dtype, weights.dtype) == (np.int32, np.int32)
    assert weights.min() >= 0
    assert np.abs(weights.sum(axis=1) - resample.ONE).max() <= weights.shape[1]
    assert first.min() == 0
    assert (first + weights.shape[1]).max() <= source


@compiled
@pytest.mark.parametrize(
    "change, line",
    [
        ({"width": 7}, "whole rows"),
        ({"width": 0}, "whole rows"),
        ({"x_first": np.array([0, 9], np.int32)}, "outside"),
        ({"y_first": np.array([-1, 0], np.int32)}, "outside"),
        ({"y_first": np.array([0, 7], np.int32)}, "outside"),
        ({"x_first": np.zeros(0, np.int32)}, "weights for each pixel"),
        ({"y_weights": np.ones(3, np.int32)}, "weights for each pixel"),
        ({"target": np.empty((2, 3, 3), np.uint8)}, "rows x columns"),
    ],
)
def test_invalid_buffers_are_rejected(change: dict[str, object], line: str) -> None:
    arguments = {
        "source": np.zeros((8, 8, 3), np.uint8),
        "width": 8,
        "x_first": np.array([0, 4], np.int32),
        "x_weights": np.ones((2, 2), np.int32),
        "y_first": np.array([0, 4], np.int32),
        "y_weights": np.ones((2, 2), np.int32),
        "target": np.empty((2, 2, 3), np.uint8),
    }
    resample._resample.resample(*arguments.values())
    with pytest.raises(ValueError, match=line):
        resample._resample.resample(*{**arguments, **change}.values())
