"""The files that a training run writes after each epoch, and how the same command resumes from them.

checkpoint.pth.tar contains the state of the run: weights, optimiser, loss scale, metrics of each epoch, and settings.
Random numbers depend only on the epoch (train/batches.py), so no generator state is saved.
model_best.pth.tar contains the weights of the best epoch, if epochs are validated. metrics.jsonl has a line for each
epoch and is rewritten from the checkpoint. Each file is replaced atomically, the checkpoint after the best weights.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.config import CONFIGS, config_sha256
from hrnet.hints import in_call
from hrnet.io.files import check_free_disk, replacing, sha256_file, write_text
from hrnet.nets import checkpoint
from hrnet.nets.trunk import count_parameters
from train.batches import Samples
from train.recipe import Trainer

BYTES = 4 * 8  # per parameter on disk, rounded up: old and new checkpoint with up to two moments each, and best weights
CHECKPOINT, BEST, METRICS = "checkpoint.pth.tar", "model_best.pth.tar", "metrics.jsonl"


def run_settings(
    model: str, trainer: Trainer, samples: Samples, weights: Optional[Path], threads: Optional[int]
) -> dict[str, Any]:
    """All settings that affect the losses of a run; the keys are used in error messages."""
    config = trainer.task.config
    train = config.TRAIN
    return {
        "model": model,
        # These are first, since config_sha256 covers some of them too, and an error names the first difference.
        **trainer.task.settings(),
        "MODEL or INPUT in its config": config_sha256(config),
        "OPTIMIZER, MOMENTUM, WD, NESTEROV": [train.OPTIMIZER, train.MOMENTUM, train.WD, train.NESTEROV],
        "LR_STEP, LR_FACTOR": [list(train.LR_STEP), train.LR_FACTOR],
        "learning rate": train.LR,
        "END_EPOCH, the length of the learning rate's cycle": None if train.LR_STEP else train.END_EPOCH,
        "batch": train[trainer.task.batch_key],
        "number of processes": trainer.context.processes,
        "precision": trainer.precision,
        "number of threads": threads,
        "start weights": None if weights is None else sha256_file(weights),
        "list of images": samples.sha256(),
    }


def check_output(output: Path, model: str) -> None:
    """Raise UserError if --output is a .pth file, or if there is the state of an unfinished run of release 0.1, which
    has another format."""
    if output.suffix == ".pth":
        raise UserError("--output must be a directory", found=output, hint=f"give --output {output.with_suffix('')}")
    for path in (Path(f"{output}.state"), output / f"{model}.pth.state"):
        if path.is_file():
            what = "training state of release 0.1, which cannot be resumed"
            raise UserError(what, where=path, expected=output / CHECKPOINT, hint=f"to start again: rm {path}")


def evaluation(args: argparse.Namespace, config: CfgNode, weights: Path) -> str:
    """The command that evaluates a trained checkpoint. make remembers CFG and DATASET of the call that trained it."""
    values = {"MODEL": args.cfg.stem, "WEIGHTS": weights}
    if "MAKELEVEL" not in os.environ:
        shipped = args.cfg.resolve().parent == CONFIGS.resolve()
        values = {**({} if shipped else {"CFG": args.cfg}), **values, "DATASET": args.dataset}
    if not any(config.REFERENCE.get(name) for name in ("TOP1", "AP")):
        values["REFERENCE"] = "torch"
    words = shlex.join(["make", "eval", *(f"{name}={value}" for name, value in values.items())])
    return in_call(f"{words}    prints its accuracy and the verdict", os.environ)


@dataclass
class RunState:
    """The finished epochs of a run."""

    output: Path
    settings: dict[str, Any]  # a run resumes only if these are unchanged
    epochs: list[dict[str, Any]] = field(default_factory=list)  # metrics of each epoch

    @property
    def best(self) -> float:
        """Top-1 of the best epoch, percent."""
        return max((epoch["top1"] for epoch in self.epochs if "top1" in epoch), default=-1.0)

    def resume(self, trainer: Trainer) -> None:
        """Load the checkpoint in the output directory, if it exists, into the trainer. Raises UserError if it belongs
        to a run with different settings, or if the disk has too little space for the next checkpoints."""
        hint = "give --output <directory on a larger disk> (with make: BUILD=<directory>)"
        check_free_disk(self.output, BYTES * count_parameters(trainer.net), hint)
        path = self.output / CHECKPOINT
        if not path.is_file():
            return
        content = checkpoint.read(path)
        hint = "give another --output (with make: BUILD=<directory>), or move this directory: "
        hint += f"mv {self.output} {self.output}.old"
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
        """Add a finished epoch; the first process writes the files."""
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
