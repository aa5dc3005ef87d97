"""What a training run leaves after each epoch, and how a later run of the same command resumes from it.

checkpoint.pth.tar holds the run itself: weights, optimiser, loss scale, the figures of each epoch, and the settings
that it was started with. What is random follows from the epoch (train/batches.py), so no generator's state is needed.
model_best.pth.tar holds only the weights of the best epoch, where epochs are validated; metrics.jsonl, a line for each
epoch, is written anew from the checkpoint. Each file is written in one step, the checkpoint after the best weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch

from hrnet.cli import UserError
from hrnet.config import config_sha256
from hrnet.io.files import check_free_disk, replacing, sha256_file, write_text
from hrnet.nets import checkpoint
from hrnet.nets.trunk import count_parameters
from train.batches import Samples
from train.recipe import Trainer

BYTES = 4 * 8  # on disk for each parameter: two checkpoints, with up to two moments of the optimiser, and two best ones
CHECKPOINT, BEST, METRICS = "checkpoint.pth.tar", "model_best.pth.tar", "metrics.jsonl"


def run_settings(
    model: str, trainer: Trainer, samples: Samples, weights: Optional[Path], threads: Optional[int]
) -> dict[str, Any]:
    """All settings that decide the losses of a run, by the names that an error shows."""
    config = trainer.task.config
    train = config.TRAIN
    return {
        "model": model,
        "MODEL or INPUT in its config": config_sha256(config),
        "OPTIMIZER, MOMENTUM, WD, NESTEROV": [train.OPTIMIZER, train.MOMENTUM, train.WD, train.NESTEROV],
        "LR_STEP, LR_FACTOR": [list(train.LR_STEP), train.LR_FACTOR],
        **trainer.task.settings(),
        "learning rate": train.LR,
        "length of the one cycle": None if train.LR_STEP else train.END_EPOCH,
        "batch": train[trainer.task.batch_key],
        "number of processes": trainer.context.processes,
        "precision": trainer.precision,
        "number of threads": threads,
        "start weights": None if weights is None else sha256_file(weights),
        "list of images": samples.sha256(),
    }


def check_output(output: Path, model: str) -> None:
    """Raise UserError where `train.pose` of release 0.1 left the state of an unfinished run, which has another form, or
    where its call is repeated, whose --output was a file."""
    if output.suffix == ".pth":
        raise UserError("--output is a directory", found=output, hint=f"give --output {output.with_suffix('')}")
    for path in (Path(f"{output}.state"), output / f"{model}.pth.state"):
        if path.is_file():
            what = "training state of release 0.1, which cannot be resumed"
            raise UserError(what, where=path, expected=output / CHECKPOINT, hint=f"to start again: rm {path}")


@dataclass
class RunState:
    """The epochs that are finished: what a run finds and adds to."""

    output: Path
    settings: dict[str, Any]  # which must be equal for a run to resume
    epochs: list[dict[str, Any]] = field(default_factory=list)  # figures of each

    @property
    def best(self) -> float:
        """Top-1 of the best epoch, percent."""
        return max((epoch["top1"] for epoch in self.epochs if "top1" in epoch), default=-1.0)

    def resume(self, trainer: Trainer) -> None:
        """Set the trainer to the checkpoint in the output directory, if there is one. Raises UserError where it belongs
        to a run with different settings, or the disk has too little room for what is to come."""
        check_free_disk(self.output, BYTES * count_parameters(trainer.net), "give --output on a larger disk")
        path = self.output / CHECKPOINT
        if not path.is_file():
            return
        content = checkpoint.read(path)
        hint = f"give another --output, or move this one: mv {self.output} {self.output}.old"
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise UserError("not a checkpoint of this trainer", where=path, hint=hint)
        for name, value in self.settings.items():
            found = content["settings"].get(name)
            if found != value:
                what = f"belongs to a run with a different {name}"
                raise UserError(what, where=path, expected=value, found=found, hint=hint)
        checkpoint.load_content(trainer.net, content.get("state_dict"), path, checkpoint.to_stderr)
        trainer.optimiser.load_state_dict(content["optimizer"])
        trainer.scaler.load_state_dict(content["scaler"])
        self.epochs = content["epochs"]
        if trainer.context.first:
            self._write_metrics()

    def add(self, trainer: Trainer, figures: dict[str, Any]) -> None:
        """Record one more finished epoch; the first process writes it."""
        improved = figures.get("top1", -1.0) > self.best
        self.epochs.append(figures)
        if not trainer.context.first:
            return
        if improved:
            checkpoint.save(trainer.net, self.output / BEST)
        content = {
            "epoch": len(self.epochs),
            "model": self.settings["model"],
            "state_dict": checkpoint.state_on_cpu(trainer.net),
            "perf": self.best,
            "optimizer": trainer.optimiser.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "settings": self.settings,
            "epochs": self.epochs,
        }
        with replacing(self.output / CHECKPOINT) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
        self._write_metrics()

    def _write_metrics(self) -> None:
        write_text(self.output / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in self.epochs))
