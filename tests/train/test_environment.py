"""The variables of a launcher or a cluster, and a machine whose shared memory is too small."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
from pathlib import Path

import pytest
import torch

from hrnet.cli import UserError
from train import batches, distributed
from train.batches import Batches, Samples, ValidationKeys, worker_deaths
from train.distributed import DistributedContext

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def set_variables(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("RANK", value) for value in ("x", "-1", "2", "0.5", "²")),
        *(("WORLD_SIZE", value) for value in ("x", "0", "-2", "two")),
        *(("MASTER_PORT", value) for value in ("", "x", "0", "65536", "-1")),
        ("LOCAL_RANK", "x"),
        ("MASTER_ADDR", ""),
    ],
)
def test_invalid_launcher_variables_are_rejected(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {**WHOLE, name: value})
    with pytest.raises(UserError) as caught:
        distributed.rank_and_world_size()
    assert name in str(caught.value) and "unset RANK WORLD_SIZE" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("values", "processes", "launch", "note"),
    [
        ({}, 1, False, ""),
        ({}, 2, True, ""),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 1, False, ""),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 2, True, "RANK=0 WORLD_SIZE=1"),
        ({"WORLD_SIZE": "2"}, 1, False, "WORLD_SIZE=2"),
        ({"RANK": "", "WORLD_SIZE": ""}, 2, True, ""),
        (WHOLE, 1, False, ""),
        (WHOLE, 2, False, ""),
    ],
)
def test_the_number_of_processes_is_reported_with_its_source(
    values: dict[str, str],
    processes: int,
    launch: bool,
    note: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_variables(monkeypatch, values)
    assert distributed.must_launch(processes) == launch
    found = capsys.readouterr().err
    assert found.count("\n") == bool(note) and found.startswith(note) and ("--nproc" in found) == bool(note)


def test_environment_and_arguments_that_differ_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, WHOLE)
    with pytest.raises(UserError) as caught:
        distributed.must_launch(8)
    assert (caught.value.expected, caught.value.found) == (2, 8) and "WORLD_SIZE=2" in caught.value.what


@pytest.mark.parametrize("rank", ["0", "1"])
def test_missing_processes_are_reported_and_time_out(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    set_variables(monkeypatch, {**WHOLE, "RANK": rank, "MASTER_PORT": str(port)})
    monkeypatch.setattr(distributed, "WAIT", 0.3)
    monkeypatch.setattr(distributed, "REPORT_AFTER", 0.1)
    monkeypatch.setattr(distributed, "accelerator", lambda: "cpu")
    threads = torch.get_num_threads()
    with pytest.raises(UserError) as caught, distributed.init_distributed(0):
        pass
    torch.set_num_threads(threads)
    assert caught.value.where == f"127.0.0.1:{port}" and "unset RANK WORLD_SIZE" in str(caught.value.hint)
    assert re.search(rf"waiting for 1 other process at 127\.0\.0\.1:{port}", capsys.readouterr().err)


class Numbers(Samples):
    """Images, one of which ends the process that reads it."""

    source = Path("numbers")

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal

    def __len__(self) -> int:
        return 8

    def read(self, epoch: int, number: int) -> tuple[torch.Tensor, int]:
        if number == self.fatal:
            os._exit(1)
        return torch.full((3, 4, 4), float(number)), number

    def sha256(self) -> str:
        return ""


ALONE = DistributedContext(0, 1, torch.device("cpu"))


def read_all(fatal: int) -> None:
    with worker_deaths():
        found = Batches(Numbers(fatal), ValidationKeys(8, 2, ALONE), 2, ALONE)
        assert [label for _, labels in found.epoch(0) for label in labels.tolist()] == list(range(8))


def test_a_reader_process_that_ends_is_reported_in_one_line() -> None:
    read_all(fatal=-1)
    with pytest.raises(UserError) as caught:
        read_all(fatal=5)
    assert "/dev/shm" in caught.value.what and "--workers" in str(caught.value.hint)
    assert "--shm-size" in str(caught.value.hint)
    assert "the trainer's own command" in str(caught.value.hint)  # make train has no --workers


def test_a_signal_that_comes_after_the_error_raises_nothing() -> None:
    """The connection to a reader breaks before SIGCHLD arrives: torch's handler would raise while the trainer ends."""
    reader = Batches(Numbers(-1), ValidationKeys(8, 2, ALONE), 1, ALONE).epoch(0)
    next(reader)
    (worker,) = multiprocessing.active_children()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        with pytest.raises(UserError), worker_deaths():
            worker.kill()
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            raise ConnectionResetError
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # torch's handler would have run by now


def test_a_batch_that_cannot_be_sent_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no space for the tensors of a batch, the trainer must not wait for it."""

    def reject(storage: object) -> None:
        raise RuntimeError("unable to open shared memory object: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", reject)
    with pytest.raises(UserError) as caught:
        read_all(fatal=-1)
    assert "/dev/shm" in caught.value.what


def test_missing_semaphores_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", reject)
    with pytest.raises(UserError) as caught:
        Batches(Numbers(-1), ValidationKeys(8, 2, ALONE), 1, ALONE)
    assert caught.value.where == batches.SHARED_MEMORY and "--workers 0" in str(caught.value.hint)
