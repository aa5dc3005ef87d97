"""One epoch of training, for both tasks."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from hrnet.cli import WorkFailed, progress
from train.batches import Batches
from train.distributed import Log
from train.meters import Meter, mean
from train.recipe import Trainer


def train_epoch(trainer: Trainer, batches: Batches, epoch: int, stop: int, every: int, log: Log) -> Meter:
    """Train on the batches of one epoch (counted from 0), or if `stop` is not 0 on so many, of several epochs if it
    takes them; log each `every`-th step. Raises WorkFailed where the loss is not a finite number."""
    steps = stop or len(batches)
    trainer.wrapped.train()
    meter = Meter(trainer.context.processes * batches.keys.batch)
    began = time.perf_counter()
    for step, (images, targets) in enumerate(_endless(batches, epoch, steps)):
        read = time.perf_counter()
        trainer.set_learning_rate(epoch + step / len(batches))
        figures = trainer.step(images, targets)
        if not math.isfinite(figures["loss"]):
            what = f"the loss is {figures['loss']} in epoch {epoch}, step {step}"
            raise WorkFailed(what, hint="start again with a smaller --lr")
        ended = time.perf_counter()
        meter.add(ended - began, figures)
        if step % every == 0:
            log(meter.step_line(epoch, step, steps, read - began))
        began = ended
    log(meter.average_line())
    return meter


def averages(trainer: Trainer, meter: Meter) -> dict[str, float]:
    """An epoch's figures for metrics.jsonl: over all its steps, and over all processes except for the times."""
    names = [*(f"train_{name}" for name in meter.figures), "last_loss"]
    found = trainer.context.total(*map(mean, meter.figures.values()), meter.figures["loss"][-1])
    shared = {name: value / trainer.context.processes for name, value in zip(names, found)}
    return {**shared, "images_per_second": meter.images_per_second(), "seconds": sum(meter.seconds)}


def _endless(batches: Batches, epoch: int, steps: int) -> Iterator[tuple[torch.Tensor, Any]]:
    """So many batches, of this epoch and those after it."""
    following = itertools.chain.from_iterable(map(batches.of, itertools.count(epoch)))
    yield from progress(itertools.islice(following, steps), steps, unit="step")
