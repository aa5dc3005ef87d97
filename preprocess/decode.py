"""Image files -> RGB pixels, to the bit as the reference has them: Pillow's `convert("RGB")` for classification, those
of cv2.imread for pose, EXIF rotation ignored by both.

Common JPEGs go through simplejpeg, which has the same libjpeg-turbo inside and fewer copies around it: 1.5 ms for a
photograph of ImageNet where Pillow takes 2.3. Everything else, and every JPEG that libjpeg as much as warns about, is
the reference's own to decode, and Pillow's to refuse.
"""

from __future__ import annotations

import io
from typing import Optional

import cv2
import numpy as np
import simplejpeg
from PIL import Image

JPEG_START = b"\xff\xd8\xff"
COLOURS = ("YCbCr", "Gray")  # others (CMYK, RGB) Pillow converts in a way of its own
SUBSAMPLINGS = ("444", "422", "420", "Gray")  # upsampled alike by all versions of libjpeg-turbo


def decode(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of an image file of any kind and mode. Raises whatever Pillow raises for a file that it
    cannot read."""
    pixels = common_jpeg(data)
    if pixels is None:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    return pixels


def decode_as_cv2(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], RGB: the pixels of cv2.imread with IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION. OpenCV fills up a
    cut file with grey and says nothing, so what is no common JPEG is Pillow's to refuse first."""
    pixels = common_jpeg(data)
    if pixels is None:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise ValueError("no image that OpenCV knows")
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height that an image file states, in pixels; nothing is decoded."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def common_jpeg(data: bytes) -> Optional[np.ndarray]:
    """uint8 [H, W, 3], RGB, of a JPEG that Pillow, OpenCV and simplejpeg decode alike; None of any other file."""
    if not data.startswith(JPEG_START):
        return None
    try:
        _, _, colour, subsampling = simplejpeg.decode_jpeg_header(data)
        if colour not in COLOURS or subsampling not in SUBSAMPLINGS:
            return None
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
        return pixels
    except ValueError:
        return None
