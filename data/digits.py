"""Write scikit-learn's handwritten digits as JPEGs in ImageNet's layout: the demo's data set, made offline.

Writes 1297 images to train/<digit>/, 500 to val/, and last the list val_label.txt (`name digit`): its presence means
that the data set is complete. A rerun keeps files with equal bytes.

    python -m data.digits --output data/digits

Source: sklearn.datasets.load_digits, 1797 images of 8x8 pixels in 17 greys, the test part of "Optical Recognition of
Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, CC BY 4.0).
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from hrnet.cli import UserError, command, plural, progress
from hrnet.hints import install
from hrnet.io.files import make_folder, write_atomic, write_text

SIZE = 64  # height and width of the written images, pixels
WHITE = 16  # brightest value of the source
VALIDATION = 500  # images in val/, the same fraction of each class
SEED = 0
QUALITY = 95  # of the JPEGs; a file is about 1.5 kB


def validation_mask(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Select `count` images for validation, bool [N]: the same fraction of each class, to within one image.

    `labels`: int [N]. Images are shuffled, sorted by class, and every N/count-th is taken.
    """
    shuffled = np.random.default_rng(seed).permutation(labels.size)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    mask = np.zeros(labels.size, dtype=bool)
    mask[by_class[np.arange(count) * labels.size // count]] = True
    return mask


def jpeg(digit: np.ndarray) -> bytes:
    """Encode a digit, values 0 to 16 [8, 8], as a grey JPEG of 64x64 pixels."""
    grey = Image.fromarray(np.rint(digit * (255 / WHITE)).astype(np.uint8))
    buffer = io.BytesIO()
    grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def run(output: Path) -> None:
    """Write the data set below `output`."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise UserError("scikit-learn is not installed", hint=install("scikit-learn", "demo")) from None
    source = load_digits()
    mask = validation_mask(source.target, VALIDATION, SEED)
    folders = {digit: make_folder(output / "train" / str(digit)) for digit in range(10)}
    val = make_folder(output / "val")
    lines = []
    samples = zip(source.images, source.target, mask)
    for index, (digit, label, in_val) in enumerate(progress(samples, total=mask.size, unit="images")):
        name = f"digit_{index:04d}.JPEG"
        path, data = (val if in_val else folders[label]) / name, jpeg(digit)
        if not (path.is_file() and path.read_bytes() == data):
            write_atomic(path, data)
        if in_val:
            lines.append(f"{name} {label}\n")
    write_text(output / "val_label.txt", "".join(lines))
    print(f"wrote {plural(mask.size - len(lines), 'image')} for training and {len(lines)} for validation to {output}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.digits", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/digits"), help="output directory (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv).output)


if __name__ == "__main__":
    sys.exit(main())
