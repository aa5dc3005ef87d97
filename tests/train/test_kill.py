"""kill -9 of a training run at any point, then the same call again: the losses and weights of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.processes import AT_WORK, group_is_gone
from tests.support.training_sets import set_up
from tests.train.calls import SECONDS, WEIGHTS, read_metrics, start

POINTS = 6
EPOCHS = 6
FLAGS = ("--train_epochs", EPOCHS, "--workers", 1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["classification", "pose"])
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and an undisturbed run in it, `out`."""
    folder = set_up(task, tmp_path_factory.mktemp("killed"))
    finish(task, folder, "out")
    return folder


def finish(task: str, folder: Path, output: str) -> None:
    """Run to the end; while a process of a killed run is running, the call must be rejected."""
    deadline = time.monotonic() + SECONDS
    while True:
        started = start(folder, *FLAGS, "--output", output, task=task)
        _, errors = started.communicate(timeout=SECONDS)
        if started.returncode != 2 or AT_WORK not in errors:
            break
        assert time.monotonic() < deadline
    assert (started.returncode, errors) == (0, "")


def steps(log: Path) -> int:
    return log.read_text().count("Epoch: [") if log.exists() else 0


def kill(task: str, folder: Path, output: str, after: int, seconds: float, whole_group: bool) -> subprocess.Popen:
    """Start a run, wait until `after` more steps are in its log, and kill it `seconds` later."""
    log = folder / output / "output/0/train_0.log"
    before = steps(log)
    started = start(folder, *FLAGS, "--output", output, task=task)
    deadline = time.monotonic() + SECONDS
    while steps(log) < before + after and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(seconds)
    if started.poll() is None:
        (os.killpg if whole_group else os.kill)(started.pid, signal.SIGKILL)
    started.communicate(timeout=SECONDS)
    return started


def check(task: str, folder: Path, output: str) -> None:
    finish(task, folder, output)
    assert read_metrics(folder, output) == read_metrics(folder)
    assert (folder / output / WEIGHTS[task]).read_bytes() == (folder / "out" / WEIGHTS[task]).read_bytes()
    assert sorted(os.listdir(folder / output)) == sorted(os.listdir(folder / "out")), "no temporary file is left"


def test_a_run_killed_anywhere_resumes_to_equal_results(task: str, folder: Path) -> None:
    source = random.Random(1)
    killed = 0
    for number in range(POINTS):
        after, seconds = source.randint(0, 2 * EPOCHS - 1), source.uniform(0, 0.2)
        started = kill(task, folder, f"killed{number}", after, seconds, whole_group=source.random() < 0.5)
        killed += started.returncode == -signal.SIGKILL
        assert started.returncode in (0, -signal.SIGKILL)
        check(task, folder, f"killed{number}")
        assert group_is_gone(started.pid)
    assert killed >= POINTS // 2


def test_a_run_killed_repeatedly_resumes_to_equal_results(task: str, folder: Path) -> None:
    """Each run is killed in the second epoch that it begins, so it adds one epoch."""
    for _ in range(3):
        kill(task, folder, "again", 3, 0.0, whole_group=True)
    assert 0 < len(read_metrics(folder, "again")) < EPOCHS
    check(task, folder, "again")
