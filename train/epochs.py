"""One pass over the images: to learn from them, or to validate on them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from hrnet.cli import WorkFailed, progress
from train import meters, samples
from train.distributed import Say
from train.recipe import Learner


def learn(learner: Learner, batches: samples.Batches, epoch: int, stop: int, every: int, say: Say) -> meters.Meter:
    """Train on the batches of one epoch (counted from 0), or where `stop` is not 0 on so many, of several epochs if it
    takes them; `say` the line of every `every`-th step. Raises WorkFailed where the loss is no number any more."""
    steps = stop or len(batches)
    learner.wrapped.train()
    meter = meters.Meter(learner.place.processes * batches.keys.batch)
    began = time.perf_counter()
    for step, (pixels, labels) in enumerate(_endless(batches, epoch, steps)):
        read = time.perf_counter()
        labels = labels.to(learner.place.device, non_blocking=True)
        loss, logits = learner.learn(pixels, labels)
        if not math.isfinite(loss):
            raise WorkFailed(f"the loss is {loss} in epoch {epoch}, step {step}; begin anew with a smaller --lr")
        top1, top5 = (100 * count / len(labels) for count in meters.hits(logits, labels))
        ended = time.perf_counter()
        meter.add(ended - began, loss, top1, top5)
        if step % every == 0:
            say(meter.step_line(epoch, step, steps, read - began))
        began = ended
    say(meter.average_line())
    return meter


def averages(learner: Learner, meter: meters.Meter) -> dict[str, float]:
    """An epoch's figures for metrics.jsonl: over all its steps, and of all processes but for the times."""
    found = learner.place.total(*map(meters.mean, (meter.losses, meter.top1, meter.top5)), meter.losses[-1])
    names = ("train_loss", "train_top1", "train_top5", "last_loss")
    shared = {name: value / learner.place.processes for name, value in zip(names, found)}
    return {**shared, "images_per_second": meter.images_per_second(), "seconds": sum(meter.seconds)}


def _endless(batches: samples.Batches, epoch: int, steps: int) -> Iterator[samples.Batch]:
    """So many batches, of this epoch and those after it."""
    following = itertools.chain.from_iterable(map(batches.of, itertools.count(epoch)))
    yield from progress(itertools.islice(following, steps), steps, unit="step")


class Validation(NamedTuple):
    """What the held-out images, of all processes together, gave."""

    loss: float
    top1: float  # percent
    top5: float
    images: int


def validate(learner: Learner, batches: samples.Batches, say: Say) -> tuple[Validation, list[int]]:
    """Validate in float32, as the net is exported; also the first class of each image of this process. WorkFailed
    unless each image was counted once and the loss is a number."""
    learner.place.share(learner.net)
    learner.net.eval()
    answers: list[int] = []
    loss, top1, top5 = 0.0, 0.0, 0.0
    began = time.perf_counter()
    for pixels, labels in batches.of(0):
        labels = labels.to(learner.place.device, non_blocking=True)
        with torch.inference_mode():
            logits = learner.net(learner.inputs(pixels))
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        first, five = meters.hits(logits, labels)
        top1, top5 = top1 + first, top5 + five
        answers += meters.first_classes(logits)
    seconds = (time.perf_counter() - began) / max(1, len(batches))
    counted, *sums = learner.place.total(len(answers), loss, 100 * top1, 100 * top5)
    if counted != batches.images:
        raise WorkFailed(f"validated {counted:.0f} of {batches.images} images")
    loss, top1, top5 = (value / counted for value in sums)
    if not math.isfinite(loss):
        raise WorkFailed(f"the loss of the validation is {loss}: the weights have grown without bounds")
    found = Validation(loss, top1, top5, batches.images)
    say(meters.test_line(seconds, found.loss, found.top1, found.top5))
    return found, answers
