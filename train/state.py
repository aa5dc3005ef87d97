"""What a training run leaves after each epoch, and how a later call goes on from there.

checkpoint.pth.tar is the run itself: weights, optimiser, loss scale, epochs and their figures, and the settings that it
was begun with. What is random follows from the epoch (train/samples.py), so that no state of a generator is needed.
model_best.pth.tar holds the weights of the best epoch alone; metrics.jsonl, a line for each epoch, is written anew from
the checkpoint. Each file is written in one step, the checkpoint after the best weights that it speaks of.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.config import config_sha256
from hrnet.io.files import check_free_disk, replacing, write_text
from hrnet.nets import checkpoint
from hrnet.nets.trunk import count_parameters
from train.recipe import Learner
from train.samples import Split, images_sha256

BYTES = 4 * 8  # on disk for each parameter: two checkpoints, with up to two moments of the optimiser, and two best ones
CHECKPOINT, BEST, METRICS = "checkpoint.pth.tar", "model_best.pth.tar", "metrics.jsonl"


def decisive(model: str, config: CfgNode, split: Split, learner: Learner) -> dict[str, Any]:
    """What decides the losses of a run, named as a message names it."""
    train = config.TRAIN
    return {
        "model": model,
        "MODEL or INPUT in its config": config_sha256(config),
        "OPTIMIZER, MOMENTUM, WD, NESTEROV": [train.OPTIMIZER, train.MOMENTUM, train.WD, train.NESTEROV],
        "LR_STEP, LR_FACTOR": [list(train.LR_STEP), train.LR_FACTOR],
        "CROP_SCALE, FLIP": [list(train.CROP_SCALE), config.DATASET.FLIP],
        "learning rate": train.LR,
        "batch": train.BATCH_SIZE_PER_GPU,
        "number of processes": learner.place.processes,
        "precision": learner.precision,
        "list of images": images_sha256(split),
    }


@dataclass
class Run:
    """The epochs that are finished: what a call finds and adds to."""

    output: Path
    settings: dict[str, Any]  # which must be equal for a call to go on
    epochs: list[dict[str, Any]] = field(default_factory=list)  # figures of each

    @property
    def best(self) -> float:
        """Top-1 of the best epoch, percent."""
        return max((epoch["top1"] for epoch in self.epochs), default=-1.0)

    def resume(self, learner: Learner) -> None:
        """Bring the learner to where the checkpoint in the output folder, if there is one, left it. Raises UserError
        where it belongs to a run with other settings, or the disk has no room for what is to come."""
        check_free_disk(self.output, BYTES * count_parameters(learner.net), "give --output on a larger disk")
        path = self.output / CHECKPOINT
        if not path.is_file():
            return
        content = checkpoint.read_pickle(path)
        hint = f"give another --output, or move this one: mv {self.output} {self.output}.old"
        if not isinstance(content, dict) or "settings" not in content:
            raise UserError("is no checkpoint of this trainer", where=path, hint=hint)
        for name, value in self.settings.items():
            found = content["settings"].get(name)
            if found != value:
                raise UserError(f"is of a run with another {name}", where=path, expected=value, found=found, hint=hint)
        checkpoint.load(learner.net, path)
        learner.optimiser.load_state_dict(content["optimizer"])
        learner.scaler.load_state_dict(content["scaler"])
        self.epochs = content["epochs"]
        if learner.place.first:
            self._write_metrics()

    def add(self, learner: Learner, figures: dict[str, Any]) -> None:
        """One more epoch is over; the first process writes it down."""
        improved = figures["top1"] > self.best
        self.epochs.append(figures)
        if not learner.place.first:
            return
        if improved:
            checkpoint.save(learner.net, self.output / BEST)
        content = {
            "epoch": len(self.epochs),
            "model": self.settings["model"],
            "state_dict": learner.net.state_dict(),
            "perf": self.best,
            "optimizer": learner.optimiser.state_dict(),
            "scaler": learner.scaler.state_dict(),
            "settings": self.settings,
            "epochs": self.epochs,
        }
        with replacing(self.output / CHECKPOINT) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
        self._write_metrics()

    def _write_metrics(self) -> None:
        write_text(self.output / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in self.epochs))
