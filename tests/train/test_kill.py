"""kill -9 of a training run at any point, then the same call again: the losses and weights of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from hrnet.nets.checkpoint import read_state
from tests.hardening.harness import AT_WORK, group_is_gone
from tests.train.pictures import curve, data_set, write_config
from tests.train.test_processes import SECONDS, start

POINTS = 8
FLAGS = ("--train_epochs", 6, "--workers", 1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and an undisturbed run in it, `out`."""
    place = tmp_path_factory.mktemp("killed")
    data_set(place / "data")
    write_config(place)
    finish(place, "out")
    return place


def finish(place: Path, output: str) -> None:
    """Run to the end; while a process of a killed run is left, it must say so."""
    deadline = time.monotonic() + SECONDS
    while True:
        started = start(place, *FLAGS, "--output", output)
        _, said = started.communicate(timeout=SECONDS)
        if started.returncode != 2 or AT_WORK not in said:
            break
        assert time.monotonic() < deadline
    assert (started.returncode, said) == (0, "")


def steps(log: Path) -> int:
    return log.read_text().count("Epoch: [") if log.exists() else 0


def kill(place: Path, output: str, after: int, seconds: float, whole_group: bool) -> subprocess.Popen[str]:
    """Start it and kill it once `after` more steps are in its log, and `seconds` later."""
    log = place / output / "output/0/train_0.log"
    before = steps(log)
    started = start(place, *FLAGS, "--output", output)
    deadline = time.monotonic() + SECONDS
    while steps(log) < before + after and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(seconds)
    if started.poll() is None:
        (os.killpg if whole_group else os.kill)(started.pid, signal.SIGKILL)
    started.communicate(timeout=SECONDS)
    return started


def check(place: Path, output: str) -> None:
    finish(place, output)
    assert curve(place, output) == curve(place)
    for name in ("checkpoint.pth.tar", "model_best.pth.tar"):
        mine, theirs = read_state(place / output / name), read_state(place / "out" / name)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), name
    assert sorted(os.listdir(place / output)) == sorted(os.listdir(place / "out")), "nothing half-written is left"


def test_a_run_killed_anywhere(place: Path) -> None:
    source = random.Random(1)
    killed = 0
    for number in range(POINTS):
        after, seconds = source.randint(0, 11), source.uniform(0, 0.2)
        started = kill(place, f"killed{number}", after, seconds, whole_group=source.random() < 0.5)
        killed += started.returncode == -signal.SIGKILL
        assert started.returncode in (0, -signal.SIGKILL)
        check(place, f"killed{number}")
        assert group_is_gone(started.pid)
    assert killed >= POINTS // 2


def test_a_run_killed_again_and_again(place: Path) -> None:
    """Each time in the second epoch that it begins, so that each call brings one epoch more."""
    for _ in range(3):
        kill(place, "again", 3, 0.0, whole_group=True)
    assert 0 < len(curve(place, "again")) < 6
    check(place, "again")
