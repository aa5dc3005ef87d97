"""What every input must equal to the bit: the seed's arithmetic in plain steps, straight from its description."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def resize(image: Image.Image, size: int = 256) -> Image.Image:
    """Bilinear, the short side to `size`, the long side in proportion and cut to an integer."""
    w, h = image.size
    if w == h == size or (w == size and h > w) or (h == size and w > h):
        return image
    ow, oh = (size, int(size * h / w)) if w < h else (int(size * w / h), size)
    return image.resize((ow, oh), Image.Resampling.BILINEAR)


def centre_crop(image: Image.Image, size: int = 224) -> Image.Image:
    """`size` x `size` pixels from the centre, which lies on `round((w - size) / 2.)`."""
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
