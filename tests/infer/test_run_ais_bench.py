"""`infer.run` on the fake of ais_bench: one device, and errors of the tool."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.io.runs import RunRecord
from hrnet.io.stamp import stamp_path
from infer import run as infer_run
from infer.run_ais_bench import execute
from tests.support import fakes
from tests.support.errors import check_error
from tests.support.linear_model import check_logits, om_model, prep_folder, remove_records

COUNT = 11
RECORDS = ["run", "run_lock", "run_run.json", "run_settings.json", stamp_path("run").name]
START = "./python_npu -m ais_bench --model m.om --input in --output out --output_dirname run --outfmt BIN --batchsize 4"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A directory with m.om for batches of 4, eleven inputs in `in`, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    om_model(Path("m.om"), 4)
    fakes.ais_python(tmp_path)
    return prep_folder(Path("in"), COUNT)


def call(*more: str, python: str = "./python_npu") -> int:
    where = ["--model", "m.om", "--inputs", "in", "--output", "out/run"]
    return infer_run.main([*where, "--backend", "ascend", "--ais_python", python, *more])


def test_ais_bench_runs_on_one_device(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--device", "3") == 0
    check_logits(images)
    record = RunRecord.read("out/run_run.json")
    assert record.tool == "ais_bench"
    assert " ".join(record.command) == f"{START} --device 3"
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(COUNT)}
    assert sorted(record.device) == ["NPU_compute_time", "throughput"]
    assert record.device["NPU_compute_time"]["count"] == 3
    assert record.seconds["infer"] == pytest.approx(record.device["NPU_compute_time"]["mean"] * 3 / 1000)
    assert record.seconds["read"] is None and record.seconds["write"] is None
    assert f"{START} --device 3\n" in capfd.readouterr().out, "the command can be pasted"


def test_the_pass_runs_again_on_another_device(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    for device in ("0", "1", "1"):
        assert call("--device", device) == 0
    out = capfd.readouterr().out
    assert [out.count(f"{START} --device {device}\n") for device in (0, 1)] == [1, 1], "the same one is up to date"
    assert sorted(os.listdir("out")) == sorted([*RECORDS, "run_summary.json"])
    check_logits(images)


def test_a_killed_tool_is_an_error_and_resumes(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "killed")
    assert call() == 1
    check_error(capfd.readouterr().err, "infer.run", "ais_bench failed", "exit ", "finished outputs are kept")
    assert not Path("out/run_run.json").exists()
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert call("--device", "1") == 0, "on any device"
    assert RunRecord.read("out/run_run.json").kept == 4, "the partial output is done again"
    check_logits(images)


def test_a_missing_summary_is_an_error(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() == 0
    remove_records()  # the old summary is left
    monkeypatch.setenv("FAKE_AIS_BENCH", "silent")
    assert call() == 2
    check_error(capsys.readouterr().err, "infer.run", "out/run_summary.json")
    assert not Path("out/run_run.json").exists()


def test_an_output_directory_with_too_many_permissions_is_rejected(
    images: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    os.chmod("out", 0o755)
    assert call() == 2
    err = capfd.readouterr().err
    assert "output path:out is illegal. Please check. has mode 0755" in err
    check_error(err, "infer.run", "ais_bench failed", "exit 2")


@pytest.mark.parametrize(
    "python, found",
    [("python_of_nobody", "no such interpreter"), (sys.executable, "no ais_bench"), ("/bin/false", "exit 1")],
)
def test_a_python_without_ais_bench_is_rejected(
    images: np.ndarray, capfd: pytest.CaptureFixture[str], python: str, found: str
) -> None:
    assert call() == 0
    capfd.readouterr()
    assert call(python=python) == 2
    check_error(capfd.readouterr().err, "infer.run", python, found, "AIS_PYTHON")
    assert Path("out/run_run.json").exists()


@pytest.mark.parametrize(
    "device, parts", [("0,", ("found '0,'",)), ("x", ("found 'x'",)), ("0,1", ("found '0,1'", "make eval DEVICE=0,1"))]
)
def test_invalid_devices_are_rejected(
    images: np.ndarray, capsys: pytest.CaptureFixture[str], device: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        call("--device", device)
    assert stopped.value.code == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert all(part in err for part in ("argument --device", *parts))
    assert not Path("out").exists()


def test_a_device_other_than_0_is_rejected_by_the_emulator(
    images: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--backend", "onnxruntime", "--device", "1") == 2
    check_error(capsys.readouterr().err, "infer.run", "expected --device 0", "found 1", "BACKEND=ascend")
    assert not Path("out").exists()


def spend(seconds: float, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"import sys, time; time.sleep({seconds}); sys.exit({code})"]


def test_several_tools_run_at_the_same_time() -> None:
    assert 1.0 <= execute([spend(1.0), spend(1.0)], [], "again") < 1.9


@pytest.mark.parametrize("codes, kind", [((0, 3), WorkFailed), ((-9, 0), WorkFailed), ((1, 2), UserError)])
def test_an_error_of_one_tool_is_reported_after_all_ended(codes: tuple[int, int], kind: type[UserError]) -> None:
    """All have ended before the error is reported."""
    commands = [spend(0), spend(0)]
    for command_line, code in zip(commands, codes):
        command_line[-1] = f"import os, sys; os.kill(os.getpid(), {-code}) if {code} < 0 else sys.exit({code})"
    with pytest.raises(kind) as caught:
        execute(commands, [], "again")
    assert type(caught.value) is kind and "failed, see above" in caught.value.what
    assert caught.value.found == f"exit {2 if 2 in codes else sum(codes)}"
