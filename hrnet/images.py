"""Image files and pixel arithmetic that two or more stages need.

Classification: the model zoo's arithmetic (imagenet_torch_preprocess.py, as torchvision's on PIL images): short side
resized, centre crop, /255, mean and standard deviation in float32.

Pose: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/utils/transforms.py (resize_align_multi_scale): one factor
for both sides makes the short side fit; the long one ends in a black border, or is cut where the input is shorter.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np
from PIL import Image

from hrnet.cli import UserError
from hrnet.resample import resize_part
from hrnet.tars import Source

MAX_PIXELS = 178_956_970  # of an image file: Pillow decodes no larger one
ORIENTATION, TURNED = 0x0112, 5  # EXIF's tag; from this value on width and height change places

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # it refuses twice as many; that many are only a warning, here not shown
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def wrong_size(found: tuple[int, int], listed: tuple[int, int], source: Source) -> str:
    """What to say of an image whose annotation file lists other width and height than it has."""
    error = f"{found[0]} x {found[1]} pixels, but {listed[0]} x {listed[1]} in the annotation file"
    with Image.open(io.BytesIO(source.read_bytes())) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
    if found == listed[::-1] and isinstance(orientation, int) and orientation >= TURNED:
        return f"{error}: EXIF orientation {orientation}, which is not applied; annotate the pixels as they are stored"
    return error


def open_image(source: Source, hint: Optional[str] = None) -> Image.Image:
    """An image file, decoded by Pillow as it is stored (EXIF orientation is ignored, the mode is the file's own).
    Raises UserError when it is missing or cannot be decoded."""
    try:
        image = Image.open(io.BytesIO(source.read_bytes()))
        image.load()
    except FileNotFoundError:
        raise UserError("no such image", where=source, hint=hint or "give DATASET=<folder>") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"not a readable image: {error}", where=source, hint=hint or "fix or remove it") from None
    return image


def short_side_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height that an image of `size` has at a short side of `short`; the long side is cut to an integer."""
    width, height = size
    return (short, int(short * height / width)) if width < height else (int(short * width / height), short)


def resize_and_crop(pixels: np.ndarray, short: int, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3] resized to a short side of `short` pixels (PIL bilinear, antialiased), of that the `width` x
    `height` pixels in the centre: uint8 [height, width, 3]. Half pixels go to the even neighbour, as by Python's round.
    """
    size = short_side_size((pixels.shape[1], pixels.shape[0]), short)
    left = round((size[0] - width) / 2.0)
    top = round((size[1] - height) / 2.0)
    return resize_part(pixels, size, left, top, width, height)


def normalise_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """float32 [3, 256]: what each pixel value of each channel becomes, `(value / 255 - mean) / std` step by step in
    float32, so that looking up gives the very bits that computing does."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    table: np.ndarray = scaled - np.asarray(mean, dtype=np.float32)[:, None]
    table /= np.asarray(std, dtype=np.float32)[:, None]
    return table


def normalise(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to float32 [3, H, W], contiguous, by `normalise_table`."""
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel, plane in enumerate(cv2.split(pixels)):
        cv2.LUT(plane, table[channel], dst=planes[channel])
    return planes


def to_input(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float], dtype: str) -> np.ndarray:
    """RGB pixels uint8 [H, W, 3] of the input's size as the network's float32 [3, H, W]; for dtype uint8 as they are.
    mean, std: of R, G, B scaled to 0..1."""
    return pixels if dtype == "uint8" else normalise(pixels, normalise_table(mean, std))


def alignment(width: int, height: int, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """How an image of `width` x `height` pixels lies in an input of `size` (width, height): its center, where the
    input's middle lies in the image, and its scale, what the input shows of it, in units of 200 pixels."""
    center = [float(int(width / 2.0 + 0.5)), float(int(height / 2.0 + 0.5))]
    if width < height:
        return center, [width / 200.0, size[1] / size[0] * width / 200.0]
    return center, [size[0] / size[1] * height / 200.0, height / 200.0]


def affine(center: Sequence[float], scale: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """float64 [2, 3]: takes a point of the image, in pixels, to the input of `size` (width, height). center, scale: of
    `alignment`."""
    width, height = size
    source = _triangle((center[0], center[1]), scale[0] * 200.0 / 2)
    target = _triangle((width / 2, height / 2), width / 2)
    matrix: np.ndarray = cv2.getAffineTransform(source, target)
    return matrix


def _triangle(middle: tuple[float, float], half: float) -> np.ndarray:
    """float32 [3, 2]: the middle, what lies `half` above it, and what lies as far left of that."""
    x, y = np.float32(middle[0]), np.float32(middle[1])
    above = np.float32(middle[1] - half)
    return np.array([[x, y], [x, above], [x - (y - above), above]], dtype=np.float32)


def resize_align(
    pixels: np.ndarray, center: Sequence[float], scale: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """uint8 [H, W, 3] as an input of `size` (width, height), bilinear, black where the image ends."""
    resized: np.ndarray = cv2.warpAffine(pixels, affine(center, scale, size), size)
    return resized
