"""`infer.run` on the fake of ais_bench: one device, several, and errors of the tool."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.runs import RunRecord
from hrnet.io.stamp import stamp_path
from infer import run as infer_run
from tests import fakes
from tests.infer.models import check_error, check_logits, om_model, prep_folder, remove_records

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


def test_one_device(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
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


def test_several_devices_share_the_inputs(images: np.ndarray) -> None:
    assert call("--device", "0,1") == 0
    check_logits(images)
    record = RunRecord.read("out/run_run.json")
    assert " ".join(record.command) == f"{START} --device 0,1 --divide_input 1"
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(COUNT)}
    names = ["run_device0_0_summary.json", "run_device1_1_summary.json"]
    assert sorted(os.listdir("out")) == sorted([*RECORDS, *names])
    summaries = [json.loads(Path("out", name).read_text()) for name in names]
    assert [len(each["filesinfo"]) for each in summaries] == [6, 5], "each image was inferred once"
    assert record.device == {
        "throughput": summaries[0]["throughput"] + summaries[1]["throughput"],
        **{
            name: {key: each[key] for key in ("NPU_compute_time", "throughput")}
            for name, each in zip(("device0_0", "device1_1"), summaries)
        },
    }
    slowest = max(sum(each["npu_compute_time_list"]) for each in summaries)
    assert record.seconds["infer"] == pytest.approx(slowest / 1000)


def test_one_device_twice_and_more_devices_than_inputs(images: np.ndarray) -> None:
    assert call("--device", ",".join(["0"] * 14)) == 0
    record = RunRecord.read("out/run_run.json")
    assert len(record.device) == COUNT + 1, "a device without an input would fail"
    check_logits(images)


def test_another_device_runs_again_and_removes_old_summaries(images: np.ndarray) -> None:
    assert call("--device", "0,1") == 0
    assert call("--device", "0") == 0
    assert sorted(os.listdir("out")) == sorted([*RECORDS, "run_summary.json"])
    check_logits(images)


def test_same_devices_are_up_to_date(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--device", "0,1") == call("--device", "0,1") == 0
    assert capfd.readouterr().out.count(START) == 1


@pytest.mark.parametrize("again", ["0,1", "0"])
def test_failing_device_only_costs_its_own_share(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], again: str
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "device1")
    assert call("--device", "0,1") == 1
    check_error(capfd.readouterr().err, "infer.run", "-m ais_bench", "exit 1", "kept for a rerun")
    assert not Path("out/run_run.json").exists()
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert call("--device", again) == 0
    assert "6 of 11 inputs were finished before and are kept" in capfd.readouterr().out
    record = RunRecord.read("out/run_run.json")
    assert (record.kept, len(record.files)) == (6, COUNT)
    check_logits(images)


@pytest.mark.parametrize("device", ["0", "0,1"])
def test_killed_tool(images: np.ndarray, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "killed")
    assert call("--device", device) == 1
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert call("--device", device) == 0
    assert RunRecord.read("out/run_run.json").kept == 4, "the partial output is done again"
    check_logits(images)


@pytest.mark.parametrize("device", ["0", "0,1"])
def test_missing_summary(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert call("--device", device) == 0
    remove_records()  # the old summary is left
    monkeypatch.setenv("FAKE_AIS_BENCH", "silent")
    assert call("--device", device) == 2
    check_error(capsys.readouterr().err, "infer.run", "out/run_summary.json")
    assert not Path("out/run_run.json").exists()


def test_missing_summary_of_one_device(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "silent")
    assert call("--device", "0,1") == 2
    check_error(capsys.readouterr().err, "infer.run", "out/run_device0_0_summary.json")


def test_tool_that_does_not_divide(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "undivided")
    assert call("--device", "0,1") == 2
    check_error(capsys.readouterr().err, "infer.run", "out/run_device1_1_summary.json", "img0")
    assert not Path("out/run_run.json").exists()


def test_output_directory_that_is_too_open(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    os.chmod("out", 0o755)
    assert call() == 2
    err = capfd.readouterr().err
    assert "output path:out is illegal. Please check. has mode 0755" in err
    check_error(err, "infer.run", "-m ais_bench", "exit 2")


@pytest.mark.parametrize(
    "python, found",
    [("python_of_nobody", "no such interpreter"), (sys.executable, "no ais_bench"), ("/bin/false", "exit 1")],
)
def test_python_without_ais_bench(
    images: np.ndarray, capfd: pytest.CaptureFixture[str], python: str, found: str
) -> None:
    assert call() == 0
    capfd.readouterr()
    assert call(python=python) == 2
    check_error(capfd.readouterr().err, "infer.run", python, found, "AIS_PYTHON")
    assert Path("out/run_run.json").exists()


def test_invalid_devices(images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call("--device", "0,")
    assert stopped.value.code == 2
    assert "argument --device" in capsys.readouterr().err


def test_emulator_has_one_device(images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--backend", "onnxruntime", "--device", "0,1") == 2
    check_error(capsys.readouterr().err, "infer.run", "expected --device 0", "found 0,1", "BACKEND=ascend")
    assert not Path("out").exists()
