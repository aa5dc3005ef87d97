"""The fast decoder equals Pillow, or OpenCV, to the bit, for whole, unusual and damaged files."""

from __future__ import annotations

import io
import warnings
from typing import Callable, Optional

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess import decode


def drawn(width: int, height: int, mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(width * 1000 + height)
    colours = random.integers(0, 256, (-(-height // 5), -(-width // 5), 3), np.uint8)
    pixels = colours.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
    return Image.fromarray(pixels).convert(mode)


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


JPEGS = st.builds(
    lambda width, height, mode, **options: jpeg(drawn(width, height, mode), **options),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(5, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)


def by_pillow(data: bytes) -> Optional[np.ndarray]:
    """Pixels, or None if Pillow raises an exception."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:
        return None


def by_us(data: bytes) -> Optional[np.ndarray]:
    try:
        return decode.decode(data)
    except Exception:
        return None


@settings(max_examples=60, deadline=None)
@given(data=JPEGS)
def test_jpegs_equal_pillow(data: bytes) -> None:
    assert np.array_equal(by_us(data), by_pillow(data))


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0.02, 1))
def test_damaged_jpegs_are_decoded_or_rejected_as_by_pillow(place: float, value: int, cut: float) -> None:
    data = bytearray(jpeg(drawn(60, 40), quality=80))
    data[min(int(place * len(data)), len(data) - 1)] = value
    damaged = bytes(data[: int(cut * len(data))])
    ours, pillows = by_us(damaged), by_pillow(damaged)
    assert (ours is None) == (pillows is None)
    assert ours is None or np.array_equal(ours, pillows)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_common_jpegs_use_the_fast_decoder(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg(drawn(30, 20, mode))
    monkeypatch.setattr(decode.Image, "open", None)
    assert decode.decode(data).shape == (20, 30, 3)


def test_other_files_are_decoded_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "simplejpeg", None)
    file = io.BytesIO()
    drawn(30, 20, "P").save(file, "PNG")
    assert np.array_equal(by_us(file.getvalue()), by_pillow(file.getvalue()))


@settings(max_examples=40, deadline=None)
@given(data=JPEGS)
def test_jpegs_equal_opencv(data: bytes) -> None:
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert np.array_equal(decode.decode_as_cv2(data), expected[:, :, ::-1])


def test_files_that_opencv_cannot_read_are_rejected() -> None:
    whole = jpeg(drawn(60, 50))
    with pytest.raises(OSError, match="truncated"):
        decode.decode_as_cv2(whole[:-60])  # OpenCV fills it with grey
    file = io.BytesIO()
    drawn(60, 50).convert("P").save(file, "PCX")
    with pytest.raises(ValueError, match="not an image that OpenCV can read"):
        decode.decode_as_cv2(file.getvalue())


@pytest.mark.parametrize("read", [decode.decode, decode.decode_as_cv2, decode.size_of])
def test_all_readers_have_the_same_limit_of_pixels(
    read: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header of a JPEG of 14,000 x 14,000 pixels is enough: none of them decodes it."""
    data = bytearray(jpeg(drawn(32, 32)))
    at = data.index(b"\xff\xc0") + 5  # height and width in the frame's header
    data[at : at + 4] = (14_000).to_bytes(2, "big") * 2
    with pytest.raises(Image.DecompressionBombError):
        read(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        data[at : at + 4] = (12_000).to_bytes(2, "big") * 2
        assert decode.size_of(bytes(data)) == (12_000, 12_000)
    monkeypatch.setattr(decode, "MAX_PIXELS", 31 * 32)
    assert decode.common_jpeg(jpeg(drawn(32, 32))) is None
