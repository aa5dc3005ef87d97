"""The model zoo's lines: of a step, of an epoch, of a validation, of the result, and its file of `Key = value` lines.

Source: https://github.com/Ascend/ModelZoo-PyTorch, PyTorch/contrib/cv/classification/HRNet_ID1780_for_PyTorch,
lib/core/function.py and test/train_full_1p.sh; docs/decisions/0018-training.md says which of its faults are not ours.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import torch

WARM_UP = 5  # steps whose time is left out of an epoch's average where there are more


def hits(logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """How many labels are the first class, and among the first five; of equal logits the lower class comes first.

    `logits`: float [N, C]; `labels`: int64 [N].
    """
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & lower)).sum(1)
    return int((ranks < 1).sum()), int((ranks < 5).sum())


def first_classes(logits: torch.Tensor) -> list[int]:
    """The class of the highest of each image's logits [N, C], of equal ones the lowest."""
    highest = logits == logits.amax(dim=1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(highest, classes, logits.shape[1]).amin(dim=1).tolist()


@dataclass
class Meter:
    """What the steps of an epoch took and gave, in one process."""

    images_at_once: int  # of all processes
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)  # percent
    top5: list[float] = field(default_factory=list)

    def add(self, seconds: float, loss: float, top1: float, top5: float) -> None:
        self.seconds.append(seconds)
        self.losses.append(loss)
        self.top1.append(top1)
        self.top5.append(top5)

    def images_per_second(self) -> float:
        """Of all processes, without the first steps."""
        return self.images_at_once / mean(self.steady(self.seconds))

    @staticmethod
    def steady(values: Sequence[float]) -> Sequence[float]:
        return values[WARM_UP:] or values

    def step_line(self, epoch: int, step: int, steps: int, data_seconds: float) -> str:
        """The line of the step added last; `data_seconds` of it went into waiting for images."""
        seconds = self.seconds[-1]
        return (
            f"Epoch: [{epoch}][{step}/{steps}]\t\tTime {seconds:.3f}s\t\tFPS {self.images_at_once / seconds:.1f}\t\t"
            f"Data {data_seconds:.3f}s\t\tLoss {self.losses[-1]:.5f}\t\t"
            f"Accuracy@1 {self.top1[-1]:.3f}\t\tAccuracy@5 {self.top5[-1]:.3f}\t\t"
        )

    def average_line(self) -> str:
        """The line, after an empty one, of an epoch's averages, all without its first steps."""
        return (
            f"\nData Average :\t\tTime_Avg {mean(self.steady(self.seconds)):.3f}s\t\t"
            f"Fps_Avg {self.images_per_second():.1f}\t\tLoss {mean(self.steady(self.losses)):.5f}\t\t"
            f"Accuracy@1_Avg {mean(self.steady(self.top1)):.3f}\t\t"
        )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def test_line(seconds: float, loss: float, top1: float, top5: float) -> str:
    """The line of a validation; `seconds` of a batch on average, accuracies in percent."""
    return (
        f"Test: Time {seconds:.3f}\tLoss {loss:.4f}\tError@1 {100 - top1:.3f}\tError@5 {100 - top5:.3f}\t"
        f"Accuracy@1 {top1:.3f}\tAccuracy@5 {top5:.3f}\t"
    )


class Outcome(NamedTuple):
    """What a run found."""

    images_per_second: Optional[float]  # of all processes; None: nothing was trained
    accuracy: float  # percent: Top-1 of the last validation; of perf, which has none, of the training steps
    loss: float  # of the last training step; of eval, of the validation


class Result(NamedTuple):
    """How a run ended."""

    network: str
    processes: int
    batch: int  # of each process
    case: str  # acc: trained; perf: some steps timed; eval: a checkpoint validated
    outcome: Outcome
    seconds: float  # of the whole run, without the start of Python and torch

    @property
    def case_name(self) -> str:
        return f"{self.network}_bs{self.batch}_{self.processes}p_{self.case}"

    def block(self) -> list[str]:
        """The lines on the screen."""
        lines = ["------------------ Final result ------------------"]
        if self.outcome.images_per_second is not None:
            lines.append(f"Final Performance images/sec : {self.outcome.images_per_second:.1f}")
        lines.append(f"Final Train Accuracy : {self.outcome.accuracy:.3f}")
        lines.append(f"E2E Training Duration sec : {self.seconds:.0f}")
        return lines

    def text(self) -> str:
        """What <case name>.log holds."""
        facts: dict[str, object] = {
            "Network": self.network,
            "RankSize": self.processes,
            "BatchSize": self.batch,
            "DeviceType": platform.machine(),
            "CaseName": self.case_name,
        }
        if self.outcome.images_per_second is not None:
            step = 1000 * self.batch * self.processes / self.outcome.images_per_second
            facts.update(ActualFPS=f"{self.outcome.images_per_second:.1f}", TrainingTime=f"{step:.2f}")
        facts.update(
            TrainAccuracy=f"{self.outcome.accuracy:.3f}",
            ActualLoss=f"{self.outcome.loss:.5f}",
            E2ETrainingTime=f"{self.seconds:.0f}",
        )
        return "".join(f"{key} = {value}\n" for key, value in facts.items())
