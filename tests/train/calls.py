"""Calls of the trainers, in this process or a new one, and the metrics that they wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.config import load_config
from tests.support import ROOT
from train.classification import __main__ as classification
from train.classification.task import ClassificationTask
from train.pose import __main__ as pose
from train.pose.task import PoseTask
from train.recipe import Task

SECONDS = 180  # after this time a process counts as hanging
WEIGHTS = {"classification": "model_best.pth.tar", "pose": "small.pth"}
MAINS = {"classification": classification.main, "pose": pose.main}


def make_task(name: str, cfg: Path) -> Task:
    """The task of a name, with a config."""
    return {"classification": ClassificationTask, "pose": PoseTask}[name](load_config(cfg))


def train(folder: Path, *more: object, output: str = "out", task: str = "classification") -> int:
    """The trainer in this process, on the data set and config in `folder`."""
    given = ("--dataset", folder / "data", "--cfg", folder / "small.yaml", "--output", folder / output)
    return MAINS[task]([str(part) for part in (*given, "--precision", "fp32", *more)])


def error_line(capsys: pytest.CaptureFixture[str], call: Callable[[], int], code: int = 2) -> str:
    """The one line on stderr of a call that ends with this exit code."""
    capsys.readouterr()
    assert call() == code
    error = capsys.readouterr().err
    assert error.startswith("train.") and error.count("\n") == 1
    return error


def read_metrics(folder: Path, output: str = "out") -> list[dict[str, Any]]:
    """metrics.jsonl without the times."""
    lines = (folder / output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    times = ("seconds", "images_per_second")
    return [{key: value for key, value in json.loads(line).items() if key not in times} for line in lines]


def start(folder: Path, *more: object, task: str = "classification", launch: tuple[str, ...] = ()) -> subprocess.Popen:
    given = ("--dataset", "data", "--cfg", "small.yaml", "--output", "out", "--precision", "fp32", *map(str, more))
    return subprocess.Popen(
        [sys.executable, *launch, "-m", f"train.{task}", *given],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
