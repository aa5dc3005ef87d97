"""The training of a tiny net whose batch norm is fixed. test_processes.py runs it in one process, and again in two that
train together. The first process writes the losses, and the sum of the absolute values of each weight, as JSON.

    python -m tests.train.frozen <task> <data set> <config> <file>

If batch norm were not fixed, each process would use the statistics of its own images, and two processes would not
compute the same as one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from hrnet.config import load_config
from train import distributed, loop, recipe
from train.batches import SEED, training_batches
from train.classification.task import ClassificationTask
from train.pose.task import PoseTask

EPOCHS = 2


def main(name: str, data: str, cfg: str, output: str) -> None:
    task = {"pose": PoseTask, "classification": ClassificationTask}[name](load_config(cfg))
    with distributed.init_distributed(0) as context:
        torch.manual_seed(SEED)
        net = task.build().eval()
        net.train = lambda mode=True: net  # type: ignore[method-assign]
        trainer = recipe.make_trainer(task, net, "fp32", context)
        batches = training_batches(task.samples(Path(data)), task.batch(), task.config.WORKERS, context)
        losses = []
        for epoch in range(EPOCHS):
            meter = loop.train_epoch(trainer, batches, epoch, 0, 100, lambda line: None)
            losses += [context.total(loss)[0] / context.processes for loss in meter.figures["loss"]]
        weights = [value.detach().double().abs().sum().item() for value in net.parameters()]
        if context.first:
            Path(output).write_text(json.dumps({"losses": losses, "weights": weights}))


if __name__ == "__main__":
    main(*sys.argv[1:])
