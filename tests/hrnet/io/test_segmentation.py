"""Compressed run lengths as pycocotools writes and reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as run_lengths

from hrnet.io.segmentation import decompress, read_segmentation


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_are_those_of_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    pixels[: height // 2] = False  # long runs too
    encoded = run_lengths.encode(np.asfortranarray(pixels.astype(np.uint8)))
    outline = read_segmentation({**encoded, "counts": encoded["counts"].decode()}, width, height)
    assert isinstance(outline, dict) and sum(outline["counts"]) == width * height
    decoded = run_lengths.decode(run_lengths.frPyObjects(outline, height, width))
    assert np.array_equal(decoded, pixels)


def test_more_pixels_than_pycocotools_counts_are_rejected() -> None:
    with pytest.raises(ValueError, match="4294967295 pixels"):
        read_segmentation({"counts": [2**34], "size": [2**17, 2**17]}, 2**17, 2**17)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_other_text_is_rejected_or_read_as_by_pycocotools(text: str) -> None:
    try:
        runs = decompress(text)
        outline = read_segmentation({"counts": text, "size": [3, sum(runs) // 3]}, sum(runs) // 3, 3)
    except ValueError:
        return
    assert isinstance(outline, dict)
    ours = run_lengths.decode(run_lengths.frPyObjects(outline, 3, sum(runs) // 3))
    assert np.array_equal(ours, run_lengths.decode({"counts": text, "size": [3, sum(runs) // 3]}))


@pytest.mark.parametrize("polygon", [[1, 1, 1, 1, 1, 1], [-4, -4, 9, -4, 9, 9], [0, 0, 5.5, 3, 0, 0, 2, 1]])
def test_polygons_are_drawn_as_by_pycocotools(polygon: list[float]) -> None:
    (drawn,) = run_lengths.frPyObjects(read_segmentation([polygon], 6, 4), 4, 6)
    assert run_lengths.decode(drawn).shape == (4, 6)
