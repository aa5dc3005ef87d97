"""Training by `train.classification` against a plain loop in PyTorch, in images/s, files to updated weights.

    python -m benchmarks.train_loop --cfg hrnet_w18 --dataset data/imagenet --batch 8 --steps 3
    python -m benchmarks.train_loop --cfg demo_digits --dataset data/digits --batch 32 --steps 15

The plain loop is what users write: a DataLoader whose workers decode with Pillow, crop, flip and normalise to float32,
a net as it is built, in float32, torch's own SGD. Both train a net of their own from the same start on the same crops
of the images below val/; their losses of the first step must be equal, or nothing is told. One process, in turn.
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
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from benchmarks.turns import in_turn, report
from hrnet.cli import UserError, WorkFailed, command, cores, integer
from hrnet.config import config_path, load_config
from hrnet.nets import classification
from hrnet.schemas import CLASSIFICATION
from train import epochs, recipe, samples
from train.distributed import DistributedContext

TOLERANCE = 1e-3  # of the first step's loss, relative: float32 sums in another order
PLACE = DistributedContext(0, 1, torch.device("cpu"))


class PlainSamples(Dataset):
    """Normalised float32 [3, H, W] and label of the image at a Key."""

    def __init__(self, split: samples.Split, config: CfgNode) -> None:
        self.split, self.config = split, config
        self.mean, self.std = (torch.tensor(part)[:, None, None] for part in (config.INPUT.MEAN, config.INPUT.STD))

    def __getitem__(self, key: samples.Key) -> tuple[torch.Tensor, int]:
        epoch, place = key
        with Image.open(self.split.files[place]) as opened:
            image = opened.convert("RGB")
        image = samples.augmented(image, self.config, random.Random(f"{samples.SEED} {epoch} {place}"))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return (pixels.float().div(255) - self.mean) / self.std, self.split.labels[place]


def plain(split: samples.Split, config: CfgNode, steps: int) -> Callable[[], list[float]]:
    """The plain loop: its losses on the first `steps` batches of an epoch."""
    train = config.TRAIN
    torch.manual_seed(samples.SEED)
    net = classification.build(config)
    optimiser = torch.optim.SGD(net.parameters(), train.LR, train.MOMENTUM, 0, train.WD, train.NESTEROV)
    keys = samples.TrainingKeys(len(split.files), train.BATCH_SIZE_PER_GPU, 0, 1)
    workers = config.WORKERS
    loader = DataLoader(
        PlainSamples(split, config), batch_sampler=keys, num_workers=workers, persistent_workers=workers > 0
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


def ours(split: samples.Split, config: CfgNode, steps: int, precision: str) -> Callable[[], list[float]]:
    """The trainer's: the same."""
    torch.manual_seed(samples.SEED)
    learner = recipe.learner(classification.build(config), config, precision, PLACE)
    batches = samples.training(split, config, PLACE)

    def work() -> list[float]:
        return epochs.learn(learner, batches, 0, steps, steps, lambda line: None).losses

    return work


def run(args: argparse.Namespace) -> None:
    """Print images/s of both, the trainer's in float32 and as it would choose, and the ratios."""
    config = load_config(args.cfg, CLASSIFICATION)
    config.defrost()
    config.TRAIN.BATCH_SIZE_PER_GPU, config.WORKERS = args.batch, args.workers
    split = samples.read_held_out(args.dataset, config)
    images = args.batch * args.steps
    if images > len(split.files):
        raise UserError("--batch times --steps", expected=f"at most {len(split.files)} images", found=images)
    precisions = dict.fromkeys(str(recipe.dtype_of(each, PLACE.device)).partition(".")[2] for each in ("fp32", "auto"))
    candidates = {"plain loop": plain(split, config, args.steps)}
    for name, precision in zip(precisions, ("fp32", "auto")):
        candidates[f"trainer, {name}"] = ours(split, config, args.steps, precision)
    first: dict[str, float] = {}

    def counted(name: str) -> Callable[[], object]:
        return lambda: first.setdefault(name, candidates[name]()[0])

    seconds = in_turn({name: counted(name) for name in candidates}, args.rounds)
    expected, found = first["plain loop"], first["trainer, float32"]
    if abs(found - expected) > TOLERANCE * abs(expected):
        raise WorkFailed(f"the first step's loss is {found} by the trainer and {expected} by the plain loop")
    told = f"{args.steps} steps of {args.batch}, {args.workers} workers, {cores()} cores"
    print(f"{args.cfg.stem}: {told}, {args.rounds} rounds, medians; first loss {expected:.5f} and {found:.5f}")
    report(seconds, images, "plain loop")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_loop", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=config_path, required=True, help="a name in configs/, or a YAML")
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet folder, whose val/ is trained on")
    parser.add_argument("--batch", type=integer(2), default=8, help="images at once (%(default)s)")
    parser.add_argument("--steps", type=integer(1), default=3, help="steps of a turn (%(default)s)")
    parser.add_argument(
        "--workers", type=integer(0), default=1, help="processes that read images, in both (%(default)s)"
    )
    parser.add_argument("--rounds", type=integer(1), default=3, help="turns of each (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
