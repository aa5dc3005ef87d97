"""train/distributed.py in one process: ports, and which line of several processes is told; test_processes runs them."""

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


def test_alone_a_sum_is_the_value() -> None:
    assert DistributedContext(0, 1, torch.device("cpu")).total(1.5, 2) == [1.5, 2.0]


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            distributed.check_port("127.0.0.1", port)
    hint = "has another run the port? give another --port, or --addr, to all nodes"
    assert str(caught.value) == f"127.0.0.1:{port}: cannot listen there: {os.strerror(errno.EADDRINUSE)}; {hint}"
    distributed.check_port("127.0.0.1", port)
    with pytest.raises(UserError, match=r"^127.0.0.1:70000: cannot listen there: .*0-65535"):
        distributed.check_port("127.0.0.1", 70000)


def said(folder: Path, rank: int, text: str) -> None:
    path = folder / f"train_x/attempt_0/{rank}/stderr.log"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_fault_is_told_not_what_it_led_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(tmp_path, 0, "Traceback …\nRuntimeError: Connection closed by peer\n")
    said(tmp_path, 1, "some warning\nm: error: a.JPEG: is no readable image\n")
    with pytest.raises(UserError, match=r"^a.JPEG: is no readable image$"):
        distributed._tell("m", tmp_path, first=0)
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(tmp_path, 0, "")
    said(tmp_path, 1, "Traceback …\nKeyError: 1\n")
    with pytest.raises(WorkFailed, match=r"^process 1 ended before its time, see above$"):
        distributed._tell("m", tmp_path, first=1)
    assert capsys.readouterr().err == "Traceback …\nKeyError: 1\n"


def test_a_process_that_was_launched_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not distributed.is_launched()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.is_launched()
