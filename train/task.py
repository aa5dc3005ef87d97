"""What differs between the two tasks: the net, the data, the loss and the validation. The loop is shared."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NamedTuple, Optional

import torch
from torch import nn
from yacs.config import CfgNode

from train.batches import Samples
from train.distributed import DistributedContext, Log

if TYPE_CHECKING:
    from train.recipe import Trainer


class Outcome(NamedTuple):
    """What a run found."""

    images_per_second: Optional[float]  # of all processes; None: nothing was trained
    accuracy: Optional[float]  # Top-1, percent: of the last validation, or of the training steps of a performance run
    loss: float  # of the last training step; of an evaluation, over all images


class Task(abc.ABC):
    """One run's task, with its config."""

    kind: ClassVar[str]  # MODEL.NAME
    batch_key: ClassVar[str]  # key in TRAIN and TEST: images at once in each process
    scales_learning_rate: ClassVar[bool]  # whether N processes take N times TRAIN.LR
    adam_decays: ClassVar[bool]  # whether Adam uses TRAIN.WD
    fused: ClassVar[tuple[str, ...]]  # devices on which the optimiser updates all weights in one kernel

    def __init__(self, config: CfgNode) -> None:
        self.config = config

    def batch(self, training: bool = True) -> int:
        """Images at once in each process."""
        return int((self.config.TRAIN if training else self.config.TEST)[self.batch_key])

    def check(self, cfg: Path) -> None:  # noqa: B027, not every task has limits
        """Raise UserError where the config asks for what this trainer does not support."""

    def precision(self, asked: str) -> str:
        """The value of --precision, with the task's meaning of `auto`."""
        return asked

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """The net with upstream's start weights, from torch's seeded generator."""

    @abc.abstractmethod
    def samples(self, dataset: Path, training: bool = True) -> Samples:
        """The images to train or to validate on. Raises UserError where they do not fit the model."""

    @abc.abstractmethod
    def losses(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        """The terms of the loss, whose sum is minimised. `outputs`: of the net, float32."""

    @abc.abstractmethod
    def figures(self, outputs: Any, targets: Any, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        """What a step reports besides the loss."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """The task's own settings that decide the losses of a run."""

    def validation(
        self, dataset: Path, context: DistributedContext, log: Log
    ) -> Optional[Callable[[Trainer], dict[str, Any]]]:
        """What validates after each epoch; its record has `top1`. None: this task has no validation."""
        return None

    def evaluate(self, trainer: Trainer, dataset: Path, weights: Path, folder: Path, log: Log) -> Outcome:
        """Validate the checkpoint `weights`; write what was found for each image to `folder`."""
        raise NotImplementedError
