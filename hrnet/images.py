"""Image files and pixel arithmetic that two or more stages need.

Classification: resize the short side, crop the centre, normalise with mean and standard deviation in float32.
INPUT.RESIZER selects the arithmetic. pillow: as the model zoo's imagenet_torch_preprocess.py, and as torchvision on
Pillow images. cv2: as PaddleClas with OpenCV (commit d178931, ppcls/data/preprocess/ops/operators.py: ResizeImage,
CropImage and NormalizeImage).

Pose: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/utils/transforms.py (resize_align_multi_scale): scale the
image so that its short side fits the input; pad the long side with black, or cut it if the input is shorter.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Optional

import cv2
import numpy as np
from PIL import Image
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.resample import resize_part
from hrnet.tars import Source

MAX_PIXELS = 178_956_970  # Pillow rejects larger image files
CV2_INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
ORIENTATION, FIRST_ROTATED = 0x0112, 5  # EXIF tag, and its first value that swaps width and height

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow warns above this value, and rejects above twice the value
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def wrong_size(found: tuple[int, int], listed: tuple[int, int], source: Source) -> str:
    """The error message for an image that has another size than in the annotation file."""
    error = f"{found[0]} x {found[1]} pixels, but {listed[0]} x {listed[1]} in the annotation file"
    with Image.open(io.BytesIO(source.read_bytes())) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
    if found == listed[::-1] and isinstance(orientation, int) and orientation >= FIRST_ROTATED:
        return f"{error}: EXIF orientation {orientation} is not applied; annotate the pixels as they are stored"
    return error


def open_image(source: Source, hint: Optional[str] = None) -> Image.Image:
    """Decode an image file with Pillow, without applying the EXIF orientation or converting the mode. Raises UserError
    if the file is missing or cannot be decoded."""
    try:
        image = Image.open(io.BytesIO(source.read_bytes()))
        image.load()
    except FileNotFoundError:
        raise UserError("no such image", where=source, hint=hint or "give DATASET=<directory>") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"not a readable image: {error}", where=source, hint=hint or "fix or remove it") from None
    return image


class Transform(NamedTuple):
    """How an image is converted to a classifier's input: MODEL.IMAGE_SIZE and INPUT of its config."""

    width: int  # of the crop, pixels
    height: int
    short: int  # short side of the resized image, pixels
    resizer: str  # one of hrnet.schemas.RESIZERS
    interpolation: str  # one of hrnet.schemas.INTERPOLATIONS
    mean: Sequence[float]  # of R, G, B scaled to 0..1
    std: Sequence[float]

    @classmethod
    def of(cls, config: CfgNode) -> Transform:
        (width, height), values = config.MODEL.IMAGE_SIZE, config.INPUT
        return cls(width, height, values.RESIZE, values.RESIZER, values.INTERPOLATION, values.MEAN, values.STD)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an image after the resize. pillow truncates the long side; cv2 rounds both sides, half to
        even."""
        if self.resizer == "cv2":
            factor = self.short / min(width, height)
            return round(width * factor), round(height * factor)
        if width < height:
            return self.short, int(self.short * height / width)
        return int(self.short * width / height), self.short

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Resize uint8 [H, W, 3] and crop the centre: uint8 [height, width, 3]. The offset of the crop is rounded half
        to even for pillow, and truncated for cv2."""
        size = self.resized(pixels.shape[1], pixels.shape[0])
        if self.resizer == "cv2":
            resized = cv2.resize(pixels, size, interpolation=CV2_INTERPOLATIONS[self.interpolation])
            left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
            return np.ascontiguousarray(resized[top : top + self.height, left : left + self.width])
        left, top = round((size[0] - self.width) / 2.0), round((size[1] - self.height) / 2.0)
        return resize_part(pixels, size, left, top, self.width, self.height, self.interpolation)

    def to_input(self, pixels: np.ndarray, dtype: str) -> np.ndarray:
        """Convert a whole image, uint8 [H, W, 3], to the network's input: float32 [3, height, width], or for dtype
        uint8 the cropped pixels [height, width, 3]."""
        return to_input(self.crop(pixels), self.mean, self.std, dtype, reciprocal=self.resizer == "cv2")


def normalise_table(mean: Sequence[float], std: Sequence[float], reciprocal: bool = False) -> np.ndarray:
    """float32 [3, 256]: `(value / 255 - mean) / std` for each pixel value of each channel. Every step is in float32, so
    a look-up gives exactly the same bits as the computation. `reciprocal`: `value * (1 / 255)` instead of `value /
    255`, as PaddleClas, which rounds differently."""
    values = np.arange(256, dtype=np.float32)
    scaled = values * np.float32(1 / 255) if reciprocal else values / np.float32(255)
    table: np.ndarray = scaled - np.asarray(mean, dtype=np.float32)[:, None]
    table /= np.asarray(std, dtype=np.float32)[:, None]
    return table


def normalise(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Convert uint8 [H, W, 3] to float32 [3, H, W], contiguous, with a `normalise_table`."""
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel, plane in enumerate(cv2.split(pixels)):
        cv2.LUT(plane, table[channel], dst=planes[channel])
    return planes


def to_input(
    pixels: np.ndarray, mean: Sequence[float], std: Sequence[float], dtype: str, reciprocal: bool = False
) -> np.ndarray:
    """Convert RGB pixels uint8 [H, W, 3] to the network's input: float32 [3, H, W], or unchanged for dtype uint8.
    mean, std: of R, G, B scaled to 0..1; reciprocal: see `normalise_table`."""
    return pixels if dtype == "uint8" else normalise(pixels, normalise_table(mean, std, reciprocal))


def alignment(width: int, height: int, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Center and scale that map an image of `width` x `height` pixels to an input of `size` (width, height).

    center: the input's centre in the image, pixels; scale: width and height of the part of the image that the input
    shows, in units of 200 pixels of the image.
    """
    center = [float(int(width / 2.0 + 0.5)), float(int(height / 2.0 + 0.5))]
    if width < height:
        return center, [width / 200.0, size[1] / size[0] * width / 200.0]
    return center, [size[0] / size[1] * height / 200.0, height / 200.0]


def affine(center: Sequence[float], scale: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """float64 [2, 3]: the affine matrix from pixels of the image to pixels of an input of `size` (width, height).
    center, scale: from `alignment`."""
    width, height = size
    source = _triangle((center[0], center[1]), scale[0] * 200.0 / 2)
    target = _triangle((width / 2, height / 2), width / 2)
    matrix: np.ndarray = cv2.getAffineTransform(source, target)
    return matrix


def _triangle(middle: tuple[float, float], half: float) -> np.ndarray:
    """float32 [3, 2]: the point `middle`, the point `half` above it, and the point `half` to the left of the second."""
    x, y = np.float32(middle[0]), np.float32(middle[1])
    above = np.float32(middle[1] - half)
    return np.array([[x, y], [x, above], [x - (y - above), above]], dtype=np.float32)


def resize_align(
    pixels: np.ndarray, center: Sequence[float], scale: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Map uint8 [H, W, 3] to an input of `size` (width, height): bilinear, black outside of the image."""
    resized: np.ndarray = cv2.warpAffine(pixels, affine(center, scale, size), size)
    return resized
