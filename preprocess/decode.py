"""Image files -> RGB pixels, equal to the bit to Pillow's `convert("RGB")` (classification) or cv2.imread (pose); EXIF
rotation is ignored.

Common JPEGs are decoded by simplejpeg, which uses the same libjpeg-turbo with fewer copies: 1.5 ms for an image of
ImageNet where Pillow takes 2.3. All other files, and every JPEG that libjpeg warns about, are decoded by Pillow or
OpenCV themselves, and refused by Pillow.
"""

from __future__ import annotations

import io
from typing import Optional

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from hrnet.images import MAX_PIXELS

JPEG_START = b"\xff\xd8\xff"
COLOURS = ("YCbCr", "Gray")  # Pillow converts others (CMYK, RGB) in another way
SUBSAMPLINGS = ("444", "422", "420", "Gray")  # all versions of libjpeg-turbo upsample them alike


def decode(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of an image file of any kind and mode. Raises what Pillow raises for an unreadable file."""
    pixels = common_jpeg(data)
    if pixels is None:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    return pixels


def decode_as_cv2(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], RGB: the pixels of cv2.imread with IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION. OpenCV
    silently fills a truncated file with grey, so Pillow checks all files but common JPEGs first."""
    pixels = common_jpeg(data)
    if pixels is None:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise ValueError("not an image that OpenCV can read")
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of an image file."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def common_jpeg(data: bytes) -> Optional[np.ndarray]:
    """uint8 [H, W, 3], RGB, of a JPEG that Pillow, OpenCV and simplejpeg decode alike; None for any other file."""
    if not data.startswith(JPEG_START):
        return None
    try:
        height, width, colour, subsampling = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS or colour not in COLOURS or subsampling not in SUBSAMPLINGS:
            return None
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
        return pixels
    except ValueError:
        return None
