"""Several processes of the trainer: the same result as one process, one line for an error, and no process left
running."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrnet.cli import UserError
from tests.support import ROOT
from tests.support.training_sets import CONFIG, POSE_TRAINING, set_up, write_config, write_pose_config
from tests.train.calls import SECONDS, read_metrics, start
from train import distributed

TOLERANCE = 1e-4  # relative: gradients are summed in another order

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return set_up("classification", tmp_path)


def run(folder: Path, *more: object, task: str = "classification") -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    started = start(folder, *more, task=task)
    screen, errors = started.communicate(timeout=SECONDS)
    return started.returncode, screen, errors


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_two_processes_equal_one_with_twice_the_batch(
    task: str, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In loss and weights, to TOLERANCE, where batch norm is fixed. For classification the learning rate grows with the
    number of processes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(set_up(task, tmp_path))
    if task == "pose":
        one = write_pose_config(tmp_path, POSE_TRAINING.replace("0.01", "0.001")).rename("one.yaml")
        two = write_pose_config(tmp_path, POSE_TRAINING.replace("0.01", "0.001").replace("PER_GPU: 4", "PER_GPU: 2"))
    else:
        one = write_config(tmp_path, CONFIG.replace("LR: 0.05", "LR: 0.02")).rename("one.yaml")
        two = write_config(tmp_path, CONFIG.replace("LR: 0.05", "LR: 0.01").replace("PER_GPU: 8", "PER_GPU: 4"))
    given = ["-m", "tests.train.frozen", task, "data", str(one), "one.json"]
    subprocess.run([sys.executable, *given], check=True)
    distributed.launch("tests.train.frozen", [task, "data", str(two), "two.json"], 2, 1, 0, "127.0.0.1", port)
    single, both = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert len(single["losses"]) == 2 * {"classification": 3, "pose": 2}[task]
    for name in ("losses", "weights"):
        assert both[name] == pytest.approx(single[name], rel=TOLERANCE), name


def test_two_classification_processes_train_and_write_logs(folder: Path, port: int) -> None:
    """Each process has its own log, each validation image counts once, and a later evaluation in one process gives the
    same Top-1."""
    code, screen, errors = run(folder, "--nproc", 2, "--bs", 4, "--port", port)
    assert (code, errors) == (0, "")
    assert screen.startswith("small, 0.07 M parameters, 24 images: cpu, float32, 2 x batch size 4\n")
    figures = read_metrics(folder)
    assert len(figures) == 4 and {each["images"] for each in figures} == {9}
    logs = [(folder / f"out/output/0/train_{rank}.log").read_text() for rank in (0, 1)]
    assert logs[0] == screen
    assert [log.count("Epoch: [") for log in logs] == [8, 8]
    validations = [re.findall("Test: .*Loss.*", log)[0].split("\t")[1:] for log in logs]
    assert validations[0] == validations[1]
    facts = (folder / "out/output/0/small_bs4_2p_acc.log").read_text()
    assert "\nRankSize = 2\nBatchSize = 4\n" in facts
    code, screen, _ = run(folder, "--eval", "--weights", "out/checkpoint.pth.tar")
    assert code == 0 and f"Final Train Accuracy : {figures[-1]['top1']:.3f}\n" in screen
    again = run(folder, "--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", 5)
    assert again[0] == 0 and "4 of 5 epochs are finished in out\n" in again[1] and len(read_metrics(folder)) == 5


def test_two_pose_processes_train(tmp_path: Path, port: int) -> None:
    folder = set_up("pose", tmp_path)
    code, screen, errors = run(folder, "--nproc", 2, "--bs", 2, "--port", port, task="pose")
    assert (code, errors) == (0, "")
    assert ": cpu, float32, 2 x batch size 2\n" in screen and "\nwrote out/small.pth\n" in screen
    figures = read_metrics(folder)
    assert len(figures) == 4 and figures[-1]["train_loss"] < figures[0]["train_loss"]
    assert "\nRankSize = 2\nBatchSize = 2\n" in (folder / "out/output/0/small_bs2_2p_acc.log").read_text()
    assert (folder / "out/output/0/train_1.log").exists()


def test_two_nodes_train_together(folder: Path, port: int) -> None:
    given = ("--nodes", 2, "--bs", 4, "--port", port, "--train_epochs", 1)
    both = [start(folder, *given, "--dn", node) for node in (0, 1)]
    outputs = [each.communicate(timeout=SECONDS) for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert "2 x batch size 4\n" in outputs[0][0] and outputs[1][0] == ""
    assert [each["images"] for each in read_metrics(folder)] == [9]


@pytest.mark.parametrize("node", [0, 1])
def test_a_node_that_waits_too_long_reports_a_failed_rendezvous(
    node: int, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "WAIT", 2)
    with pytest.raises(UserError) as caught:
        distributed.launch("train.classification", [], 1, 2, node, "127.0.0.1", port)
    assert caught.value.where == f"127.0.0.1:{port}" and caught.value.what.startswith("rendezvous failed")


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_torchrun_can_start_the_trainer(task: str, tmp_path: Path, port: int) -> None:
    folder = set_up(task, tmp_path)
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port))
    started = start(folder, "--bs", 2, "--stop_step", 2, task=task, launch=launch)
    screen, errors = started.communicate(timeout=SECONDS)
    assert started.returncode == 0, errors
    assert "2 x batch size 2\n" in screen
    assert (folder / "out/output/0/small_bs2_2p_perf.log").exists()


def test_an_error_of_one_or_all_processes_is_reported_in_one_line(folder: Path, port: int) -> None:
    given = ("--nproc", 2, "--bs", 4, "--port", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, _, errors = run(folder, *given)
    assert code == 2 and errors.startswith(f"train.classification: error: 127.0.0.1:{port}: ")
    assert "--port" in errors and errors.count("\n") == 1
    code, _, errors = run(folder, *given, "--lr", "1e30")
    assert code == 1 and re.fullmatch(r"train\.classification: failed: the loss is (nan|inf) in epoch .*\n", errors)
    path = folder / "data/train/grey/grey3.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    code, _, errors = run(folder, *given, "--workers", 1)
    assert code == 2 and errors.count("\n") == 1
    assert errors.startswith("train.classification: error: data/train/grey/grey3.JPEG: ")
    code, _, errors = run(folder, *given, "--cfg", "none.yaml")
    assert code == 2 and errors.startswith("train.classification: error: none.yaml: ") and errors.count("\n") == 1


def test_processes_end_with_a_killed_launcher(folder: Path, port: int) -> None:
    started = start(folder, "--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", 1000)
    deadline = time.monotonic() + SECONDS
    while not (folder / "out/checkpoint.pth.tar").exists():
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    assert len(children) == 2
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=SECONDS)
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = len(read_metrics(folder))
    given = ("--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", before + 1)
    code, _, errors = run(folder, *given)
    assert code == 0, errors
    assert run(folder, *given, "--output", "undisturbed")[0] == 0
    assert read_metrics(folder) == read_metrics(folder, "undisturbed")
    assert [each["epoch"] for each in read_metrics(folder)] == list(range(1, before + 2))
