"""The reference for all inputs: a simple implementation of the model zoo's and PaddleClas' arithmetic, bit for bit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def resize(image: Image.Image, size: int = 256, method: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    """The short side to `size`, the long side in proportion and cut to an integer."""
    w, h = image.size
    if w == h == size or (w == size and h > w) or (h == size and w > h):
        return image
    ow, oh = (size, int(size * h / w)) if w < h else (int(size * w / h), size)
    return image.resize((ow, oh), method)


def centre_crop(image: Image.Image, size: int = 224) -> Image.Image:
    """`size` x `size` pixels from the centre, which begin at `round((w - size) / 2.)`."""
    left = round((image.width - size) / 2.0)
    top = round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def normalise(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to float32 [3, H, W], one step after the other."""
    planes = np.array(pixels, dtype=np.float32).transpose(2, 0, 1)
    planes = planes / 255.0
    planes -= np.array(MEAN, dtype=np.float32)[:, None, None]
    planes /= np.array(STD, dtype=np.float32)[:, None, None]
    return planes


def reference(path: Path, size: int = 256, crop: int = 224) -> bytes:
    """The bytes of an image's input file."""
    image = Image.open(path).convert("RGB")
    return normalise(np.asarray(centre_crop(resize(image, size), crop))).tobytes()


def paddleclas_crop(
    pixels: np.ndarray, short: int, crop: tuple[int, int], method: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """uint8 [H, W, 3] as made by PaddleClas' ResizeImage(resize_short=short) and CropImage(size=crop), crop (width,
    height) (commit d178931, ppcls/data/preprocess/ops/operators.py)."""
    img_h, img_w = pixels.shape[:2]
    percent = float(short) / min(img_w, img_h)
    w = round(img_w * percent)
    h = round(img_h * percent)
    resized = cv2.resize(pixels, (w, h), interpolation=method)
    w_start = (w - crop[0]) // 2
    h_start = (h - crop[1]) // 2
    return resized[h_start : h_start + crop[1], w_start : w_start + crop[0], :]


def paddleclas_normalise(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] as float32 [3, H, W] by PaddleClas' NormalizeImage (of the same commit) and ToCHWImage."""
    mean = np.array(MEAN).reshape((1, 1, 3)).astype("float32")
    std = np.array(STD).reshape((1, 1, 3)).astype("float32")
    image = (pixels.astype("float32") * np.float32(1.0 / 255.0) - mean) / std
    return image.transpose((2, 0, 1))


def aligned(path: Path, short: int, longs: list[int]) -> tuple[np.ndarray, list[float], list[float]]:
    """A COCO image's uint8 pixels [H, W, 3], resized as by the model zoo's HigherHRNet_preprocess.py, with center and
    scale; the input's long side is the first of the rising `longs` that is large enough, or the last."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[:, :, ::-1]
    h, w = pixels.shape[:2]
    center = [int(w / 2.0 + 0.5), int(h / 2.0 + 0.5)]
    if w < h:
        wanted = int((short / w * h + 63) // 64 * 64)
        w_out, h_out = short, next((long for long in longs if long >= wanted), longs[-1])
        scale = [w / 200.0, h_out / w_out * w / 200.0]
    else:
        wanted = int((short / h * w + 63) // 64 * 64)
        w_out, h_out = next((long for long in longs if long >= wanted), longs[-1]), short
        scale = [w_out / h_out * h / 200.0, h / 200.0]
    source = np.zeros((3, 2), np.float32)
    target = np.zeros((3, 2), np.float32)
    source[0], target[0] = center, [w_out * 0.5, h_out * 0.5]
    source[1], target[1] = [center[0], center[1] - scale[0] * 200.0 * 0.5], [w_out * 0.5, h_out * 0.5 - w_out * 0.5]
    for points in (source, target):
        up = points[0] - points[1]
        points[2] = points[1] + np.array([-up[1], up[0]], np.float32)
    matrix = cv2.getAffineTransform(source, target)
    return cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (w_out, h_out)), center, scale
