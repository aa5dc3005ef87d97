"""The classification task for the training loop: upstream's network, cross entropy, Top-1 and Top-5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

from hrnet.io.files import write_text
from hrnet.nets import checkpoint, classification
from hrnet.schemas import CLASSIFICATION
from train.batches import Batches, validation_batches
from train.classification.data import LabelledImages, read_images
from train.classification.validation import TOP, hits, validate
from train.distributed import DistributedContext, Log
from train.recipe import Outcome, Task, Trainer


class ClassificationTask(Task):
    kind = CLASSIFICATION
    batch_key = "BATCH_SIZE_PER_GPU"
    scales_learning_rate = True
    adam_decays = True
    fused = ("cpu", "cuda")  # torch_npu's fused optimiser: not tested

    def build(self) -> nn.Module:
        return classification.build(self.config)

    def samples(self, dataset: Path, training: bool = True) -> LabelledImages:
        return read_images(dataset, self.config, training)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"cross entropy": nn.functional.cross_entropy(outputs, targets)}

    def figures(self, outputs: torch.Tensor, targets: torch.Tensor, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        counts = dict(zip(("top1", "top5"), hits(outputs.detach(), targets)))
        if outputs.shape[1] <= TOP:
            del counts["top5"]  # 100% by definition
        return {name: 100 * count / len(targets) for name, count in counts.items()}

    def settings(self) -> dict[str, Any]:
        return {"CROP_SCALE, FLIP": [list(self.config.TRAIN.CROP_SCALE), self.config.DATASET.FLIP]}

    def validation(self, dataset: Path, context: DistributedContext, log: Log) -> Callable[[Trainer], dict[str, Any]]:
        batches = self._validation_batches(dataset, context)
        for line in batches.samples.notes():
            log(line)
        return lambda trainer: validate(trainer, batches, log)[0]._asdict()

    def _validation_batches(self, dataset: Path, context: DistributedContext) -> Batches:
        samples = self.samples(dataset, training=False)
        return validation_batches(samples, self.batch(training=False), self.config.WORKERS, context)

    def evaluate(self, trainer: Trainer, dataset: Path, weights: Path, folder: Path, log: Log) -> Outcome:
        checkpoint.load(trainer.net, weights, log)
        context, samples = trainer.context, self.samples(dataset, training=False)
        result, classes = validate(trainer, self._validation_batches(dataset, context), log)
        files = samples.files[context.rank :: context.processes]
        lines = (f"{os.path.relpath(file, dataset)} {number}\n" for file, number in zip(files, classes))
        write_text(folder / f"eval_{context.rank}.txt", "".join(lines))
        return Outcome(None, result.top1, result.loss)
