"""train/distributed.py in one process: ports, and which error of several processes is reported."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from hrnet.cli import UserError, WorkFailed
from train import distributed
from train.distributed import DistributedContext


def test_the_total_of_one_process_is_its_value() -> None:
    assert DistributedContext(0, 1, torch.device("cpu")).total(1.5, 2) == [1.5, 2.0]


def test_a_port_in_use_is_reported() -> None:
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


def test_an_unexpected_exception_keeps_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.fixture
def with_npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the device files of two NPUs; returns a directory on the import path."""
    for name in ("davinci0", "davinci1", "davinci_manager"):
        (tmp_path / name).touch()
    monkeypatch.setattr(distributed, "NPUS", f"{tmp_path}/davinci[0-9]*")
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.delitem(sys.modules, "torch_npu")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_an_npu_without_torch_npu_is_one_warning(with_npu: Path) -> None:
    assert distributed.accelerator() != "npu"
    warning = distributed.unused_npu("cpu")
    assert warning is not None and warning.startswith("WARNING: ") and "\n" not in warning
    version = torch.__version__.partition("+")[0]
    for part in (
        "CPU",
        f"{with_npu}/davinci0",
        "torch_npu is not installed",
        f"{sys.executable} -m pip install torch-npu=={version}",
    ):
        assert part in warning
    assert distributed.unused_npu("npu") is None


def test_an_npu_that_torch_npu_does_not_find_is_a_warning(with_npu: Path) -> None:
    (with_npu / "torch_npu.py").write_text("class npu:\n    is_available = staticmethod(lambda: False)\n")
    assert distributed.accelerator() != "npu"
    assert "no NPU is available to torch_npu" in str(distributed.unused_npu("cpu"))


def test_a_machine_without_an_npu_gets_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "NPUS", f"{tmp_path}/davinci[0-9]*")
    assert distributed.unused_npu("cpu") is None


@pytest.mark.parametrize("error", ["ImportError('libhccl.so: cannot open')", "RuntimeError('Two accelerators')"])
def test_a_torch_npu_that_cannot_be_imported_is_reported_in_one_line(error: str, with_npu: Path) -> None:
    (with_npu / "torch_npu.py").write_text(f"raise {error}\n")
    with pytest.raises(UserError, match=error.split("'")[1]) as caught:
        distributed.accelerator()
    assert "set_env.sh" in str(caught.value.hint) and "make doctor" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("version", "accepted"), [("2.1.0", False), ("2.3.1+cpu", False), ("2.4.0", True), ("3.0", True)]
)
def test_a_torch_older_than_2_4_is_rejected(version: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    if accepted:
        return distributed.check_torch()
    with pytest.raises(UserError) as caught:
        distributed.check_torch()
    assert (caught.value.expected, caught.value.found) == ("2.4 or later", version.partition("+")[0])
    return None
