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

SMALLER = "start again with a smaller learning rate: --lr (with make: TRAIN.LR in a copy of the config)"


def train_epoch(trainer: Trainer, batches: Batches, epoch: int, stop: int, every: int, log: Log) -> Meter:
    """Train on one epoch (`epoch`, counted from 0) or, if `stop` is not 0, on `stop` batches from this epoch on. Log
    every `every`-th step. Raises WorkFailed if the loss is not finite."""
    steps = stop or len(batches)
    trainer.wrapped.train()
    meter = Meter(trainer.context.processes * batches.keys.batch)
    began = time.perf_counter()
    for step, (images, targets) in enumerate(_take(batches, epoch, steps)):
        read = time.perf_counter()
        trainer.set_learning_rate(epoch + step / len(batches))
        figures = trainer.step(images, targets)
        if not math.isfinite(figures["loss"]):
            what = f"the loss is {figures['loss']} in epoch {epoch}, step {step}"
            raise WorkFailed(what, hint=SMALLER)
        ended = time.perf_counter()
        meter.add(ended - began, figures)
        if step % every == 0:
            log(meter.step_line(epoch, step, steps, read - began))
        began = ended
    log(meter.average_line())
    return meter


def averages(trainer: Trainer, meter: Meter) -> dict[str, float]:
    """An epoch's figures for metrics.jsonl: means over all steps and processes, images/s without the warm-up steps, and
    the seconds of this process."""
    names = [*(f"train_{name}" for name in meter.figures), "last_loss"]
    found = trainer.context.total(*map(mean, meter.figures.values()), meter.figures["loss"][-1])
    shared = {name: value / trainer.context.processes for name, value in zip(names, found)}
    return {**shared, "images_per_second": meter.images_per_second(), "seconds": sum(meter.seconds)}


def _take(batches: Batches, epoch: int, steps: int) -> Iterator[tuple[torch.Tensor, Any]]:
    """The first `steps` batches of `epoch` and the following epochs."""
    endless = itertools.chain.from_iterable(map(batches.epoch, itertools.count(epoch)))
    yield from progress(itertools.islice(endless, steps), steps, unit="step")
