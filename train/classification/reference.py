"""Compute PyTorch's accuracy on the images of a manifest: the reference for the gate.

    python -m train.classification.reference --cfg demo_digits --weights weights/demo_digits.pth \\
        --manifest build/demo_digits/prep/digits-float32/manifest.json --dataset data/digits \\
        --output build/demo_digits/reference/digits-float32.json

Reads   a config, a checkpoint, a manifest of `preprocess` and the data set's images; with --inputs the prepared inputs
        beside the manifest instead of the images
Writes  a metrics record, and with --logits a float32 [images, classes] .npy in the manifest's order

Preprocessing equals torchvision's Resize, CenterCrop, ToTensor and Normalize as used in upstream's tools/valid.py
(https://github.com/HRNet/HRNet-Image-Classification, commit f130a24), or, if INPUT.RESIZER is cv2, PaddleClas'
ResizeImage, CropImage and NormalizeImage (https://github.com/PaddlePaddle/PaddleClas, commit d178931). This code uses
Pillow, OpenCV and numpy, and shares nothing with the preprocess stage, so that it is an independent check.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional, TypeVar

import cv2
import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from hrnet.cli import UserError, command, integer, plural, progress
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.images import open_image
from hrnet.inputs import planes, read_input
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.reference import describe, write_reference
from hrnet.io.stamp import Stamp, is_current, tensors_state, touch
from hrnet.io.tensors import write_output
from hrnet.nets import checkpoint, classification
from hrnet.schemas import CLASSIFICATION
from hrnet.tars import find_source

T = TypeVar("T")

TOP = 5  # Top-1 to Top-5
MODULE = "train.classification.reference"
PIXEL_MAX = np.float32(255)
HINT = "--dataset must be the directory that was preprocessed"


def prepare(image: Image.Image, config: CfgNode) -> np.ndarray:
    """Convert an image of any mode and size to the network's input, float32 [3, H, W].

    Resize and crop with INPUT.RESIZER (pillow or cv2), scale 0..255 to 0..1, subtract the mean and divide by std.
    """
    rgb = image.convert("RGB")
    if config.INPUT.RESIZER == "cv2":
        scaled = cropped_by_cv2(np.asarray(rgb), config).astype(np.float32) * np.float32(1 / 255)
    else:
        scaled = np.asarray(cropped_by_pillow(rgb, config), np.float32) / PIXEL_MAX
    mean = np.array(config.INPUT.MEAN, dtype=np.float32)
    std = np.array(config.INPUT.STD, dtype=np.float32)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def cropped_by_pillow(rgb: Image.Image, config: CfgNode) -> Image.Image:
    """Resize the short side to INPUT.RESIZE pixels (the long side is rounded down), and crop MODEL.IMAGE_SIZE from the
    centre (its offset is rounded half to even)."""
    width, height = rgb.size
    short = config.INPUT.RESIZE
    if min(width, height) != short:
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        long = int(short * max(width, height) / min(width, height))
        size = (short, long) if width < height else (long, short)
        rgb = rgb.resize(size, method[config.INPUT.INTERPOLATION])
    crop_width, crop_height = config.MODEL.IMAGE_SIZE
    left = round((rgb.width - crop_width) / 2)
    top = round((rgb.height - crop_height) / 2)
    return rgb.crop((left, top, left + crop_width, top + crop_height))


def cropped_by_cv2(pixels: np.ndarray, config: CfgNode) -> np.ndarray:
    """Resize the short side of uint8 [H, W, 3] to INPUT.RESIZE pixels (both sides are rounded half to even), and crop
    MODEL.IMAGE_SIZE from the centre (its offset is rounded down)."""
    sides = np.array(pixels.shape[:2])
    height, width = np.rint(sides * (config.INPUT.RESIZE / sides.min())).astype(int).tolist()
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    resized = cv2.resize(pixels, (width, height), interpolation=method[config.INPUT.INTERPOLATION])
    crop_width, crop_height = config.MODEL.IMAGE_SIZE
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return resized[top : top + crop_height, left : left + crop_width]


def logits_of(
    net: torch.nn.Module, images: Sequence[T], read: Callable[[T], np.ndarray], batch: int
) -> Iterator[np.ndarray]:
    """Yield the logits of each batch, float32 [batch, classes]; the last batch may be smaller. `read` gives the
    network's input for an image, float32 [3, H, W]."""
    net.eval()
    for start in progress(range(0, len(images), batch), unit="batch"):
        inputs = np.stack([read(image) for image in images[start : start + batch]])
        with torch.inference_mode():
            yield net(torch.from_numpy(inputs)).numpy()


def count_hits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of Top-1, Top-2, … Top-5 hits, int [5], or [classes] if there are fewer. Among equal logits the lower
    class ranks first.

    `logits`: float32 [N, classes]; `labels`: int [N].
    """
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    hits: np.ndarray = np.cumsum(ranked == labels[:, None], axis=1).sum(axis=0)
    return hits


def run(args: argparse.Namespace) -> None:
    """Evaluate, write the record (and the logits before it), print one line."""
    config, manifest = load_config(args.cfg, CLASSIFICATION), Manifest.read(args.manifest)
    config_hash, labels = config_sha256(config), np.array(manifest.labels())
    if manifest.config_sha256 != config_hash:
        raise UserError(
            "preprocessed with a different config", where=args.manifest, hint=f"run preprocess with {args.cfg}"
        )
    if labels.max() >= config.MODEL.NUM_CLASSES:
        expected = f"labels below {config.MODEL.NUM_CLASSES}"
        raise UserError("label outside the model's classes", where=args.manifest, expected=expected, found=labels.max())
    net = classification.build(config)
    checkpoint.load(net, args.weights)
    settings = {
        "config_sha256": config_hash,
        "dataset": str(args.dataset),
        "torch": torch.__version__,
        "batch_size": args.batch_size,
        "inputs_state": tensors_state(args.manifest.parent) if args.inputs else None,
    }
    files = {"weights": args.weights, "manifest": args.manifest}
    stamp = Stamp.compute([MODULE], settings, files)
    products = [*([args.logits] if args.logits else []), args.output]
    if is_current(args.output, stamp, products):
        touch(args.output, products)
        return
    folder = args.manifest.parent

    def read(image: InputImage) -> np.ndarray:
        if args.inputs:
            return planes(read_input(folder, image, manifest), config)[0]
        return prepare(open_image(find_source(args.dataset, image.source), HINT), config)

    logits = np.concatenate(list(logits_of(net, manifest.images, read, args.batch_size)))
    hits = count_hits(logits, labels)
    metrics = {f"top{n}": float(value) for n, value in enumerate(hits / len(labels) * 100, 1)}
    if args.logits:
        make_folder(args.logits.parent)
        write_output(args.logits, logits)
    figures = {
        "metrics": metrics,
        "hits": hits.tolist(),
        "images": len(labels),
        "classes": logits.shape[1],
        "predicted": logits.argmax(axis=1).tolist(),
    }
    write_reference(products, figures, manifest, stamp, "weights", f"torch {torch.__version__.split('+')[0]}")
    print(f"wrote {args.output} ({plural(len(labels), 'image')}, {describe(metrics, logits.shape[1])})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m train.classification.reference", description=__doc__.splitlines()[0]
    )
    add_cfg_argument(parser)
    parser.add_argument("--weights", type=Path, required=True, help="the model's checkpoint")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the preprocessed images")
    parser.add_argument("--dataset", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--output", type=Path, required=True, help="metrics record to write (JSON)")
    parser.add_argument("--logits", type=Path, help="also write the logits here (.npy)")
    parser.add_argument("--inputs", action="store_true", help="use the prepared inputs instead of the images")
    parser.add_argument("--batch_size", type=integer(1), default=32, help="batch size (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
