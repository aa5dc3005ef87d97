"""Compare the speed of train.classification with a plain PyTorch loop: images/s from files to updated weights.

    python -m benchmarks.train_loop --cfg hrnet_w18 --dataset data/imagenet --batch_size 8 --steps 3
    python -m benchmarks.train_loop --cfg demo_digits --dataset data/digits --batch_size 32 --steps 15

The plain loop is what users write: a DataLoader whose workers decode with Pillow, crop, flip and normalise to float32,
a float32 network, and torch's SGD. Each loop trains its own network, with the same initial weights and the same crops
of the images in val/. The run fails if the first losses of the plain loop and of our loop in float32 differ. The loops
run alternately in one process.
"""

from __future__ import annotations

import argparse
import random
import sys
from itertools import islice
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from benchmarks.turns import in_turn, report
from hrnet.cli import UserError, WorkFailed, command, cores, integer
from hrnet.config import add_cfg_argument, load_config
from hrnet.images import open_image
from hrnet.nets import classification
from hrnet.schemas import CLASSIFICATION
from train import loop, recipe
from train.batches import SEED, Key, TrainingKeys, training_batches
from train.classification.data import LabelledImages, augment, read_images
from train.classification.task import ClassificationTask
from train.distributed import DistributedContext

TOLERANCE = 1e-3  # relative, for the first step's loss: float32 sums in a different order
CONTEXT = DistributedContext(0, 1, torch.device("cpu"))


class PlainSamples(Dataset):
    """The normalised image, float32 [3, H, W], and the label at a Key."""

    def __init__(self, images: LabelledImages, config: CfgNode) -> None:
        self.images, self.config = images, config
        self.mean, self.std = (torch.tensor(part)[:, None, None] for part in (config.INPUT.MEAN, config.INPUT.STD))

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        epoch, index = key
        image = open_image(self.images.files[index]).convert("RGB")
        image = augment(image, self.config, random.Random(f"{SEED} {epoch} {index}"))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return (pixels.float().div(255) - self.mean) / self.std, self.images.labels[index]


def plain(images: LabelledImages, config: CfgNode, steps: int) -> Callable[[], list[float]]:
    """A function that runs the plain loop and returns its losses on the first `steps` batches of an epoch."""
    train = config.TRAIN
    torch.manual_seed(SEED)
    net = classification.build(config)
    optimiser = torch.optim.SGD(net.parameters(), train.LR, train.MOMENTUM, 0, train.WD, train.NESTEROV)
    keys = TrainingKeys(len(images), train.BATCH_SIZE_PER_GPU, CONTEXT)
    workers = config.WORKERS
    loader = DataLoader(
        PlainSamples(images, config), batch_sampler=keys, num_workers=workers, persistent_workers=workers > 0
    )

    def work() -> list[float]:
        losses = []
        for image, label in islice(loader, steps):
            loss = nn.functional.cross_entropy(net(image), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses

    return work


def ours(images: LabelledImages, config: CfgNode, steps: int, precision: str) -> Callable[[], list[float]]:
    """The same for our trainer."""
    torch.manual_seed(SEED)
    task = ClassificationTask(config)
    trainer = recipe.make_trainer(task, task.build(), precision, CONTEXT)
    batches = training_batches(images, task.batch(), config.WORKERS, CONTEXT)

    def work() -> list[float]:
        return loop.train_epoch(trainer, batches, 0, steps, steps, lambda line: None).figures["loss"]

    return work


def run(args: argparse.Namespace) -> None:
    """Print images/s of the plain loop and of the trainer in float32 and with --precision auto, and the ratios."""
    config = load_config(args.cfg, CLASSIFICATION)
    config.defrost()
    config.TRAIN.BATCH_SIZE_PER_GPU, config.WORKERS = args.batch_size, args.workers
    images = read_images(args.dataset, config, training=False)
    images.training = True
    count = args.batch_size * args.steps
    if count > len(images):
        most = f"at most {len(images)} images"
        raise UserError("--batch_size times --steps is too large", expected=most, found=count)
    precisions = dict.fromkeys(
        str(recipe.dtype_of(each, CONTEXT.device)).partition(".")[2] for each in ("fp32", "auto")
    )
    candidates = {"plain loop": plain(images, config, args.steps)}
    for name, precision in zip(precisions, ("fp32", "auto")):
        candidates[f"trainer, {name}"] = ours(images, config, args.steps, precision)
    first: dict[str, float] = {}

    def counted(name: str) -> Callable[[], object]:
        return lambda: first.setdefault(name, candidates[name]()[0])

    seconds = in_turn({name: counted(name) for name in candidates}, args.rounds)
    expected, found = first["plain loop"], first["trainer, float32"]
    if abs(found - expected) > TOLERANCE * abs(expected):
        raise WorkFailed("the first loss of the trainer differs from the plain loop's", expected=expected, found=found)
    how = f"{args.steps} steps of {args.batch_size}, {args.workers} workers, {cores()} cores"
    print(f"{args.cfg.stem}: {how}, {args.rounds} rounds, medians; first loss {expected:.5f} and {found:.5f}")
    report(seconds, count, "plain loop")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_loop", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet directory; val/ is used for training")
    parser.add_argument("--batch_size", type=integer(2), default=8, help="batch size (%(default)s)")
    parser.add_argument("--steps", type=integer(1), default=3, help="steps of a run (%(default)s)")
    parser.add_argument("--workers", type=integer(0), default=1, help="worker processes of each loop (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
