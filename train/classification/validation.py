"""Validation of a classification net, by all processes together."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import nn

from hrnet.cli import WorkFailed
from train.batches import Batches
from train.distributed import Log
from train.meters import test_line
from train.recipe import Trainer


class Validation(NamedTuple):
    """What the images of all processes together gave."""

    loss: float
    top1: float  # percent
    top5: float
    images: int


def hits(logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """How many labels are the first class, and among the first five; of equal logits the lower class comes first.

    `logits`: float [N, C]; `labels`: int64 [N].
    """
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & lower)).sum(1)
    return int((ranks < 1).sum()), int((ranks < 5).sum())


def first_classes(logits: torch.Tensor) -> list[int]:
    """The class of the highest of each image's logits [N, C], of equal ones the lowest."""
    highest = logits == logits.amax(dim=1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(highest, classes, logits.shape[1]).amin(dim=1).tolist()


def validate(trainer: Trainer, batches: Batches, log: Log) -> tuple[Validation, list[int]]:
    """Validate in float32, as the net is exported; also the first class of each image of this process. Raises
    WorkFailed unless each image was counted once and the loss is finite."""
    trainer.context.share(trainer.net)
    trainer.net.eval()
    answers: list[int] = []
    loss, top1, top5 = 0.0, 0.0, 0.0
    began = time.perf_counter()
    for images, labels in batches.of(0):
        labels = labels.to(trainer.context.device, non_blocking=True)
        with torch.inference_mode():
            logits = trainer.net(trainer.inputs(images))
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        first, five = hits(logits, labels)
        top1, top5 = top1 + first, top5 + five
        answers += first_classes(logits)
    seconds = (time.perf_counter() - began) / max(1, len(batches))
    images_in_all = len(batches.samples)
    counted, *sums = trainer.context.total(len(answers), loss, 100 * top1, 100 * top5)
    if counted != images_in_all:
        raise WorkFailed("validated images", expected=images_in_all, found=f"{counted:.0f}")
    loss, top1, top5 = (value / counted for value in sums)
    if not math.isfinite(loss):
        raise WorkFailed(f"the loss of the validation is {loss}: the weights have grown without bounds")
    found = Validation(loss, top1, top5, images_in_all)
    log(test_line(seconds, found.loss, found.top1, found.top5))
    return found, answers
