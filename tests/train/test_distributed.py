"""train/distributed.py in one process: ports, and which error of several processes is reported."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
import torch

from hrnet.cli import UserError, WorkFailed
from train import distributed
from train.distributed import DistributedContext


def test_the_total_of_one_process_is_its_value() -> None:
    assert DistributedContext(0, 1, torch.device("cpu")).total(1.5, 2) == [1.5, 2.0]


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            distributed.check_port("127.0.0.1", port)
    assert caught.value.where == f"127.0.0.1:{port}" and os.strerror(errno.EADDRINUSE) in caught.value.what
    assert caught.value.hint is not None and "--port" in caught.value.hint
    distributed.check_port("127.0.0.1", port)
    with pytest.raises(UserError, match="0-65535"):
        distributed.check_port("127.0.0.1", 70000)


def write_log(folder: Path, rank: int, text: str) -> None:
    path = folder / f"train_x/attempt_0/{rank}/stderr.log"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_error_line_is_reported_not_its_consequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path, 0, "Traceback …\nRuntimeError: Connection closed by peer\n")
    write_log(tmp_path, 1, "some warning\nm: error: a.JPEG: not a readable image\n")
    with pytest.raises(UserError, match=r"^a.JPEG: not a readable image$"):
        distributed._raise_failure("m", tmp_path, first=0)
    assert capsys.readouterr().err == ""


def test_an_unexpected_exception_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path, 0, "")
    write_log(tmp_path, 1, "Traceback …\nKeyError: 1\n")
    with pytest.raises(WorkFailed, match="process 1"):
        distributed._raise_failure("m", tmp_path, first=1)
    assert capsys.readouterr().err == "Traceback …\nKeyError: 1\n"


def test_a_launched_process_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not distributed.is_launched()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert distributed.is_launched()
