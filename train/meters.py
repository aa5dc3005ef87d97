"""Output in the model zoo's format: log lines of steps, epochs, validation and result, and the result file.

Source: https://gitee.com/ascend/ModelZoo-PyTorch, PyTorch/contrib/cv/classification/HRNet_ID1780_for_PyTorch,
lib/core/function.py and test/train_full_1p.sh; docs/decisions/0018-training.md lists its errors that are not copied.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from train.recipe import Outcome

WARM_UP = 5  # first steps that an epoch's averages leave out, if there are more steps


@dataclass
class Meter:
    """Times and metrics of the steps of an epoch, in one process."""

    total_batch: int  # images in one step of all processes
    seconds: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)  # loss; top1 and top5 (percent), or terms of the loss

    def add(self, seconds: float, figures: dict[str, float]) -> None:
        self.seconds.append(seconds)
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def images_per_second(self) -> float:
        """Throughput of all processes, without the warm-up steps."""
        return self.total_batch / mean(self.steady(self.seconds))

    @staticmethod
    def steady(values: Sequence[float]) -> Sequence[float]:
        return values[WARM_UP:] or values

    def step_line(self, epoch: int, step: int, steps: int, data_seconds: float) -> str:
        """The log line of the step added last. `data_seconds`: the time it waited for images."""
        seconds = self.seconds[-1]
        figures = "".join(f"{_text(name, '', values[-1])}\t\t" for name, values in self.figures.items())
        return (
            f"Epoch: [{epoch}][{step}/{steps}]\t\tTime {seconds:.3f}s\t\tFPS {self.total_batch / seconds:.1f}\t\t"
            f"Data {data_seconds:.3f}s\t\t{figures}"
        )

    def average_line(self) -> str:
        """An empty line, and the line of an epoch's averages, without the warm-up steps."""
        means = {name: mean(self.steady(values)) for name, values in self.figures.items() if name != "top5"}
        figures = "".join(f"{_text(name, '_Avg', value)}\t\t" for name, value in means.items())
        return (
            f"\nData Average :\t\tTime_Avg {mean(self.steady(self.seconds)):.3f}s\t\t"
            f"Fps_Avg {self.images_per_second():.1f}\t\t{figures}"
        )


def _text(name: str, ending: str, value: float) -> str:
    if name == "loss":
        return f"Loss {value:.5f}"
    return f"Accuracy@{name[3:]}{ending} {value:.3f}" if name.startswith("top") else f"{name}{ending} {value:.5f}"


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def test_line(seconds: float, loss: float, top1: float, top5: Optional[float]) -> str:
    """The log line of a validation. `seconds`: mean time of a batch; accuracies in percent, None to leave Top-5 out."""
    known = {1: top1, **({} if top5 is None else {5: top5})}
    errors = "".join(f"Error@{n} {100 - value:.3f}\t" for n, value in known.items())
    accuracies = "".join(f"Accuracy@{n} {value:.3f}\t" for n, value in known.items())
    return f"Test: Time {seconds:.3f}\tLoss {loss:.4f}\t{errors}{accuracies}"


class Result(NamedTuple):
    """The result of a run."""

    network: str
    processes: int
    batch: int  # of each process
    case: str  # acc: trained; perf: some steps timed; eval: a checkpoint validated
    outcome: Outcome
    seconds: float  # duration of the run, without starting Python and importing torch

    @property
    def case_name(self) -> str:
        return f"{self.network}_bs{self.batch}_{self.processes}p_{self.case}"

    def block(self) -> list[str]:
        """The lines to print."""
        lines = ["------------------ Final result ------------------"]
        if self.outcome.images_per_second is not None:
            lines.append(f"Final Performance images/sec : {self.outcome.images_per_second:.1f}")
        if self.outcome.accuracy is not None:
            lines.append(f"Final Train Accuracy : {self.outcome.accuracy:.3f}")
        lines.append(f"E2E Training Duration sec : {self.seconds:.0f}")
        return lines

    def text(self) -> str:
        """The content of <case name>.log: `Key = value` lines."""
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
        if self.outcome.accuracy is not None:
            facts.update(TrainAccuracy=f"{self.outcome.accuracy:.3f}")
        facts.update(ActualLoss=f"{self.outcome.loss:.5f}", E2ETrainingTime=f"{self.seconds:.0f}")
        return "".join(f"{key} = {value}\n" for key, value in facts.items())
