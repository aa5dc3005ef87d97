"""Make a checkpoint of any model without training: seeded weights, batch norm calibrated on real images.

With plain random weights the logits reach 1e8 and one class wins everywhere, so that parity and fp16 figures mean
nothing. Calibrated, each layer's values have the scale that a trained net's have; Top-1 varies with the image once
the logits' mean is taken out.
Reads a config and a folder of images (the first ones in natural order); writes a bare float32 state dict.

    python -m benchmarks.seeded_checkpoint --cfg configs/hrnet_w18.yaml --images data/imagenet/val \\
        --output build/seeded/hrnet_w18.pth

Weights: He et al., https://arxiv.org/abs/1502.01852. Calibration: mean and variance of each layer's own input, averaged
over batches, as torch.nn.BatchNorm2d gathers them with momentum None.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import nn

from hrnet.cli import UserError, command, progress, whole
from hrnet.config import load_config
from hrnet.files import natural_key
from hrnet.nets import checkpoint, classification
from hrnet.schemas import CLASSIFICATION
from train.evaluate import logits_of, open_prepared

BATCH = 16  # images; of W64, 16 take about 1 GB
SUFFIXES = (".jpeg", ".jpg", ".png")


def calibrate(net: nn.Module, images: torch.Tensor) -> None:
    """Set the running mean and variance of all batch norms from `images`, float32 [N, 3, H, W]."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
    net.train()
    with torch.no_grad():
        for batch in progress(images.split(BATCH), unit="batch"):
            net(batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    net.eval()


def centre(net: classification.ClassificationNet, logits: np.ndarray) -> None:
    """Take from the last bias what all images have in common, which would let a few classes win everywhere.

    `logits`: float32 [N, classes] of some images.
    """
    with torch.no_grad():
        net.classifier.bias.sub_(torch.from_numpy(logits.mean(axis=0)))


def list_images(folder: Path, count: int) -> list[Path]:
    """The first `count` images of a folder in natural order; fewer if there are no more, an error if there is none."""
    if not folder.is_dir():
        raise UserError("no such folder", where=folder)
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise UserError("holds no image", where=folder, expected="one of " + ", ".join(SUFFIXES))
    return sorted(paths, key=lambda path: natural_key(path.name))[:count]


def run(cfg: Path, images: Path, output: Path, seed: int, count: int) -> None:
    """Initialise, calibrate, write, and tell the logits' scale and variety on the same images."""
    config = load_config(cfg, CLASSIFICATION)
    paths = list_images(images, count)
    torch.manual_seed(seed)
    net = classification.build(config)
    calibrate(net, torch.from_numpy(np.stack([open_prepared(path, config) for path in paths])))
    centre(net, np.concatenate(list(logits_of(net, paths, config, BATCH))))
    checkpoint.save(net, output)
    logits = np.concatenate(list(logits_of(net, paths, config, BATCH)))
    told = f"logits up to {np.abs(logits).max():.2f}, {np.unique(logits.argmax(axis=1)).size} classes win"
    print(f"wrote {output} (seed {seed}, calibrated on {len(paths)} images: {told})")


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeded_checkpoint", description="Seeded checkpoint.")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config")
    parser.add_argument("--images", type=Path, required=True, help="folder of images to calibrate on")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write (.pth)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (%(default)s)")
    parser.add_argument("--count", type=whole(1), default=32, help="images to calibrate on (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.images, args.output, args.seed, args.count)


if __name__ == "__main__":
    raise SystemExit(main())
