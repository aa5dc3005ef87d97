"""One process's training of a tiny net whose batch norm stands still, for test_processes.py: its losses as JSON.

    python -m tests.train.frozen <data set> <config> <file>

A batch norm that takes its figures from its own process's images makes two processes another computation than one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from hrnet.config import load_config
from hrnet.nets import classification
from train import distributed, epochs, recipe, samples

EPOCHS = 2


def main(data: Path, cfg: Path, output: Path) -> None:
    config = load_config(cfg)
    with distributed.init_distributed(0) as place:
        torch.manual_seed(samples.SEED)
        net = classification.build(config).eval()
        net.train = lambda mode=True: net  # type: ignore[method-assign]
        learner = recipe.learner(net, config, "fp32", place)
        batches = samples.training(samples.read_training(data, config), config, place)
        losses = []
        for epoch in range(EPOCHS):
            meter = epochs.learn(learner, batches, epoch, 0, 100, lambda line: None)
            together = [place.total(loss)[0] / place.processes for loss in meter.losses]
            losses.append(together)
        weights = [value.detach().double().abs().sum().item() for value in net.parameters()]
        if place.first:
            output.write_text(json.dumps({"losses": losses, "weights": weights}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
