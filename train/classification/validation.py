"""Validation of a classification network, distributed over all processes."""

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

TOP = 5  # Top-1 and Top-5


class Validation(NamedTuple):
    """The result over the images of all processes."""

    loss: float
    top1: float  # percent
    top5: float
    images: int


def hits(logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """The number of Top-1 and of Top-5 hits. Among equal logits the lower class ranks first.

    `logits`: float [N, C]; `labels`: int64 [N].
    """
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & lower)).sum(1)
    return int((ranks < 1).sum()), int((ranks < TOP).sum())


def predicted_classes(logits: torch.Tensor) -> list[int]:
    """For each image, the class with the highest logit of [N, C]; among equal logits the lowest class."""
    highest = logits == logits.amax(dim=1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(highest, classes, logits.shape[1]).amin(dim=1).tolist()


def validate(trainer: Trainer, batches: Batches, log: Log) -> tuple[Validation, list[int]]:
    """Validate in float32, the precision of the export. Also returns the predicted class of each image of this process.
    Raises WorkFailed unless each image was counted once and the loss is finite."""
    trainer.context.broadcast_buffers(trainer.net)
    trainer.net.eval()
    classes: list[int] = []
    loss, top1, top5 = 0.0, 0.0, 0.0
    began = time.perf_counter()
    for images, labels in batches.epoch(0):
        labels = labels.to(trainer.context.device, non_blocking=True)
        with torch.inference_mode():
            logits = trainer.net(trainer.inputs(images))
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        first, five = hits(logits, labels)
        top1, top5 = top1 + first, top5 + five
        classes += predicted_classes(logits)
    seconds = (time.perf_counter() - began) / max(1, len(batches))
    expected = len(batches.samples)
    counted, *sums = trainer.context.total(len(classes), loss, 100 * top1, 100 * top5)
    if counted != expected:
        raise WorkFailed("wrong number of validated images", expected=expected, found=f"{counted:.0f}")
    loss, top1, top5 = (value / counted for value in sums)
    if not math.isfinite(loss):
        raise WorkFailed(f"the validation loss is {loss}: the training has diverged")
    result = Validation(loss, top1, top5, expected)
    known = result.top5 if trainer.task.config.MODEL.NUM_CLASSES > TOP else None
    log(test_line(seconds, result.loss, result.top1, known))
    return result, classes
