"""Several processes of the trainer: the result of one, one line for a fault, and no process left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrnet.cli import UserError
from tests.train.pictures import CONFIG, curve, data_set, write_config
from train import distributed

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180  # after which a process is taken to hang
TOLERANCE = 1e-4  # relative: gradients are summed in another order

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number


@pytest.fixture
def place(tmp_path: Path) -> Path:
    data_set(tmp_path / "data")
    write_config(tmp_path)
    return tmp_path


def start(place: Path, *more: object) -> subprocess.Popen[str]:
    given = ("data", "--cfg", "small.yaml", "--output", "out", "--precision", "fp32", *map(str, more))
    return subprocess.Popen(
        [sys.executable, "-m", "train.classification", *given],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(place: Path, *more: object) -> tuple[int, str, str]:
    started = start(place, *more)
    told, said = started.communicate(timeout=SECONDS)
    return started.returncode, told, said


def test_two_processes_learn_as_one_with_twice_the_batch(
    place: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In loss and weights, to TOLERANCE, where batch norm stands still; the rate grows with the batch in both."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(place)
    one = write_config(place, CONFIG.replace("LR: 0.05", "LR: 0.02")).rename(place / "one.yaml")
    two = write_config(place, CONFIG.replace("LR: 0.05", "LR: 0.01").replace("PER_GPU: 8", "PER_GPU: 4"))
    subprocess.run([sys.executable, "-m", "tests.train.frozen", "data", str(one), "one.json"], check=True)
    distributed.launch("tests.train.frozen", ["data", str(two), "two.json"], 2, 1, 0, "127.0.0.1", port)
    alone, both = (json.loads((place / name).read_text()) for name in ("one.json", "two.json"))
    assert len(alone["losses"][0]) == 3
    for name in ("losses", "weights"):
        flat = [
            [value for part in found[name] for value in (part if name == "losses" else [part])]
            for found in (alone, both)
        ]
        assert flat[1] == pytest.approx(flat[0], rel=TOLERANCE), name


def test_a_run_of_two_and_its_logs(place: Path, port: int) -> None:
    """Each process has a log of its own, each held-out image counts once, and one process validates the same."""
    code, told, said = run(place, "--nproc", 2, "--bs", 4, "--port", port)
    assert (code, said) == (0, "")
    assert told.startswith("small, 0.07 M parameters: 2 times 4 images at once on cpu, float32; 24 images\n")
    figures = curve(place)
    assert len(figures) == 4 and {each["images"] for each in figures} == {9}
    logs = [(place / f"out/output/0/train_{rank}.log").read_text() for rank in (0, 1)]
    assert logs[0] == told
    assert [log.count("Epoch: [") for log in logs] == [8, 8]
    assert (
        re.findall("Test: .*Loss.*", logs[0])[0].split("\t")[1:]
        == re.findall("Test: .*Loss.*", logs[1])[0].split("\t")[1:]
    )
    facts = (place / "out/output/0/small_bs4_2p_acc.log").read_text()
    assert "\nRankSize = 2\nBatchSize = 4\n" in facts
    code, told, _ = run(place, "--eval", "--weights", "out/checkpoint.pth.tar")
    assert code == 0 and f"Final Train Accuracy : {figures[-1]['top1']:.3f}\n" in told
    again = run(place, "--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", 5)
    assert again[0] == 0 and "4 of 5 epochs are finished in out\n" in again[1] and len(curve(place)) == 5


def test_two_nodes_are_a_run(place: Path, port: int) -> None:
    given = ("--nodes", 2, "--bs", 4, "--port", port, "--train_epochs", 1)
    both = [start(place, *given, "--dn", node) for node in (0, 1)]
    told = [each.communicate(timeout=SECONDS) for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    assert "2 times 4 images at once" in told[0][0] and told[1][0] == ""
    assert [each["images"] for each in curve(place)] == [9]


@pytest.mark.parametrize("node", [0, 1])
def test_a_node_that_nobody_joins(node: int, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "WAIT", 2)
    with pytest.raises(UserError, match=rf"^127.0.0.1:{port}: the machines did not meet: .*; start all --nodes, each "):
        distributed.launch("train.classification", [], 1, 2, node, "127.0.0.1", port)


def test_torchrun_itself_starts_it(place: Path, port: int) -> None:
    given = ["data", "--cfg", "small.yaml", "--output", "out", "--bs", "4", "--stop_step", "2"]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "train.classification", *given],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2 times 4 images at once" in done.stdout
    assert (place / "out/output/0/small_bs4_2p_perf.log").exists()


def test_one_line_for_a_fault_of_one_or_all(place: Path, port: int) -> None:
    given = ("--nproc", 2, "--bs", 4, "--port", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, _, said = run(place, *given)
    assert code == 2 and said.startswith(f"train.classification: error: 127.0.0.1:{port}: cannot listen there: ")
    assert (
        said.endswith("; has another run the port? give another --port, or --addr, to all nodes\n")
        and said.count("\n") == 1
    )
    code, _, said = run(place, *given, "--lr", "1e30")
    assert code == 1 and re.fullmatch(r"train\.classification: failed: the loss is (nan|inf) in epoch .*\n", said)
    path = place / "data/train/grey/grey3.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    code, _, said = run(place, *given, "--workers", 1)
    assert code == 2 and said.count("\n") == 1
    assert said.startswith("train.classification: error: data/train/grey/grey3.JPEG: is no readable image: ")
    code, _, said = run(place, *given[:-2], "--port", port, "--cfg", "none.yaml")
    assert (code, said) == (2, "train.classification: error: none.yaml: no such config; known here: small\n")


def test_a_killed_launcher_takes_its_processes_along(place: Path, port: int) -> None:
    started = start(place, "--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", 1000)
    deadline = time.monotonic() + SECONDS
    while not (place / "out/checkpoint.pth.tar").exists():
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    assert len(children) == 2
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=SECONDS)
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = len(curve(place))
    code, _, said = run(place, "--nproc", 2, "--bs", 4, "--port", port, "--train_epochs", before + 1)
    assert code == 0, said
    given = ("--nproc", 2, "--bs", 4, "--port", port, "--output", "undisturbed", "--train_epochs", before + 1)
    assert run(place, *given)[0] == 0
    assert curve(place) == curve(place, "undisturbed")
    assert [each["epoch"] for each in curve(place)] == list(range(1, before + 2))
