"""Train the demo's small HRNet on the digits of data/digits.py; about a minute and a half on two cores.

Reads train/<digit>/*.JPEG, and once training is over val/ with val_label.txt: the held-out images choose nothing, not
even the epoch, since the last one is kept. Writes a bare float32 state dict.

    python -m train.digits --dataset data/digits --cfg configs/demo_digits.yaml --output weights/demo_digits.pth

Adam (Kingma, Ba, https://arxiv.org/abs/1412.6980) with a learning rate that warms up and falls to 0 in one cycle
(Smith, Topin, https://arxiv.org/abs/1708.07120). Seeds and threads are fixed, so that one machine gives the same
weights again; another processor may round differently.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from hrnet.cli import UserError, command, progress
from hrnet.config import load_config
from hrnet.datasets import read_labels
from hrnet.io.files import natural_key
from hrnet.nets import checkpoint, classification
from hrnet.nets.trunk import count_parameters
from hrnet.schemas import CLASSIFICATION
from train.evaluate import logits_of, open_prepared, topn

SEED = 0
THREADS = 2
EPOCHS = 30
RATE = 0.003  # learning rate at its peak
# How far each training image is moved at random, each way:
TURN = 0.2  # radians
STRETCH = 0.15  # of its size
SHIFT = 0.15  # of half its side


def moved(images: torch.Tensor) -> torch.Tensor:
    """Each image [N, 3, H, W] turned, stretched and shifted at random; what comes in from outside is its border."""
    turn, stretch, right, down = (torch.rand(4, len(images)) * 2 - 1) * torch.tensor([TURN, STRETCH, SHIFT, SHIFT])[
        :, None
    ]
    cos, sin = torch.cos(turn) * (1 + stretch), torch.sin(turn) * (1 + stretch)
    affine = torch.stack([cos, -sin, right, sin, cos, down], dim=1).reshape(-1, 2, 3)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, settings: CfgNode) -> None:
    """Train `net` on normalised images float32 [N, 3, H, W] and labels int64 [N], by TRAIN's batch and WD."""
    batch = settings.BATCH_SIZE_PER_GPU
    steps = len(images) // batch  # the rest of an epoch's shuffle is left out: batch norm wants full batches
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=settings.WD)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps * EPOCHS)
    net.train()
    for _ in progress(range(EPOCHS), unit="epoch"):
        for chosen in torch.randperm(len(images))[: steps * batch].split(batch):
            loss = nn.functional.cross_entropy(net(moved(images[chosen])), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            cycle.step()


def read_training_set(dataset: Path, config: CfgNode) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of train/<digit>/ as float32 [N, 3, H, W] and their digits as int64 [N]."""
    paths = sorted((dataset / "train").glob("*/*.JPEG"), key=lambda path: natural_key(str(path)))
    if len(paths) < config.TRAIN.BATCH_SIZE_PER_GPU:
        expected = f"at least {config.TRAIN.BATCH_SIZE_PER_GPU} files train/<digit>/*.JPEG"
        hint = f"python -m data.digits --output {dataset}"
        raise UserError("too few images", where=dataset, expected=expected, found=len(paths), hint=hint)
    images = torch.from_numpy(np.stack([open_prepared(path, config) for path in paths]))
    return images, torch.tensor([int(path.parent.name) for path in paths])


def run(dataset: Path, cfg: Path, output: Path) -> None:
    """Train, write the checkpoint, tell its accuracy on the held-out images."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    config = load_config(cfg, CLASSIFICATION)
    started = time.monotonic()
    images, labels = read_training_set(dataset, config)
    held_out = read_labels(dataset / "val_label.txt")
    net = classification.build(config)
    train(net, images, labels, config.TRAIN)
    checkpoint.save(net, output)
    seconds = time.monotonic() - started
    paths = [dataset / "val" / name for name in held_out]
    logits = np.concatenate(list(logits_of(net, paths, config, config.TEST.BATCH_SIZE_PER_GPU)))
    top1 = topn(logits, np.array(list(held_out.values())))["top1"]
    told = f"{count_parameters(net) / 1e6:.2f} M parameters, trained on {len(images)} images in {seconds:.0f} s"
    print(f"wrote {output} ({told}; Top-1 {top1:.1f}% of {len(paths)} held-out images)")


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.digits", description="Train the demo's small HRNet.")
    parser.add_argument("--dataset", type=Path, default=Path("data/digits"), help="made by data.digits (%(default)s)")
    parser.add_argument("--cfg", type=Path, default=Path("configs/demo_digits.yaml"), help="the model (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write (.pth)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.dataset, args.cfg, args.output)


if __name__ == "__main__":
    raise SystemExit(main())
