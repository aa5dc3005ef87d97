"""`infer.run` on the double of ais_bench: one device, several, and what it does when the tool does not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.runs import RunRecord
from infer import run as infer_run
from tests import fakes
from tests.infer.models import expected_logits, om_model, prep_folder

COUNT = 11


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A place to stand in: m.om for batches of 4, eleven inputs in `in`, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    om_model(Path("m.om"), 4)
    fakes.ais_python(tmp_path)
    return prep_folder(Path("in"), COUNT)


def call(*more: str, python: str = "./python_npu") -> int:
    where = ["--model", "m.om", "--input", "in", "--output", "out", "--output_dirname", "run"]
    return infer_run.main([*where, "--backend", "ascend", "--ais_python", python, *more])


def logits() -> np.ndarray:
    return np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(COUNT)])


WHOLE = sorted(f"img{i}_0.bin" for i in range(COUNT))
START = "./python_npu -m ais_bench --model m.om --input in --output out --output_dirname run --outfmt BIN --batchsize 4"


def test_one_device(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--device", "3") == 0
    np.testing.assert_allclose(logits(), expected_logits(images), rtol=1e-5, atol=1e-5)
    record = RunRecord.read("out/run_run.json")
    assert record.tool == "ais_bench"
    assert " ".join(record.command) == f"{START} --device 3"
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(COUNT)}
    assert sorted(record.device) == ["NPU_compute_time", "throughput"]
    assert record.device["NPU_compute_time"]["count"] == 3
    assert record.seconds["infer"] == pytest.approx(record.device["NPU_compute_time"]["mean"] * 3 / 1000)
    assert record.seconds["read"] is None and record.seconds["write"] is None
    assert f"{START} --device 3\n" in capfd.readouterr().out, "the command can be pasted"


def test_several_devices_share_the_input(images: np.ndarray) -> None:
    assert call("--device", "0,1") == 0
    np.testing.assert_allclose(logits(), expected_logits(images), rtol=1e-5, atol=1e-5)
    record = RunRecord.read("out/run_run.json")
    assert " ".join(record.command) == f"{START} --device 0,1 --divide_input 1"
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(COUNT)}
    assert sorted(os.listdir("out/run")) == WHOLE, "one folder, as from one device"
    summaries = ["run_device0_0_summary.json", "run_device1_1_summary.json"]
    assert sorted(os.listdir("out")) == ["run", *summaries, "run_lock", "run_run.json", "run_settings.json"]
    told = [json.loads(Path("out", name).read_text()) for name in summaries]
    assert [len(each["filesinfo"]) for each in told] == [6, 5], "each image was inferred once"
    assert record.device == {
        "throughput": told[0]["throughput"] + told[1]["throughput"],
        **{
            name: {key: each[key] for key in ("NPU_compute_time", "throughput")}
            for name, each in zip(("device0_0", "device1_1"), told)
        },
    }
    assert record.seconds["infer"] == pytest.approx(max(sum(each["npu_compute_time_list"]) for each in told) / 1000)


def test_one_device_twice_and_more_devices_than_inputs(images: np.ndarray) -> None:
    assert call("--device", ",".join(["0"] * 14)) == 0
    record = RunRecord.read("out/run_run.json")
    assert len(record.device) == COUNT + 1, "a device without an input would fail"
    np.testing.assert_allclose(logits(), expected_logits(images), rtol=1e-5, atol=1e-5)


def test_fewer_devices_leave_no_summary_of_the_others(images: np.ndarray) -> None:
    assert call("--device", "0,1") == 0
    assert call("--device", "0") == 0
    assert sorted(os.listdir("out")) == ["run", "run_lock", "run_run.json", "run_settings.json", "run_summary.json"]
    assert sorted(os.listdir("out/run")) == WHOLE


@pytest.mark.parametrize("again", ["0,1", "0"])
def test_a_device_that_fails_costs_its_own_share(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], again: str
) -> None:
    monkeypatch.setenv("AIS_DOUBLE", "device1")
    assert call("--device", "0,1") == 1
    told = "infer.run: failed: -m ais_bench exited with 1, see above; what it finished is kept for a rerun\n"
    assert capfd.readouterr().err == told
    assert not Path("out/run_run.json").exists()
    monkeypatch.delenv("AIS_DOUBLE")
    assert call("--device", again) == 0
    assert "6 of 11 inputs were finished before and are kept" in capfd.readouterr().out
    record = RunRecord.read("out/run_run.json")
    assert (record.kept, len(record.files)) == (6, COUNT)
    np.testing.assert_allclose(logits(), expected_logits(images), rtol=1e-5, atol=1e-5)
    assert sorted(os.listdir("out/run")) == WHOLE


@pytest.mark.parametrize("device, kept", [("0", 4), ("0,1", 4)])
def test_killed_in_the_middle(images: np.ndarray, monkeypatch: pytest.MonkeyPatch, device: str, kept: int) -> None:
    monkeypatch.setenv("AIS_DOUBLE", "killed")
    assert call("--device", device) == 1
    monkeypatch.delenv("AIS_DOUBLE")
    assert call("--device", device) == 0
    assert RunRecord.read("out/run_run.json").kept == kept, "the half-written output is done again"
    np.testing.assert_allclose(logits(), expected_logits(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", ["0", "0,1"])
def test_no_summary(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert call("--device", device) == 0
    os.unlink("out/run_run.json")  # so that the next call takes it for interrupted, an old summary at its side
    monkeypatch.setenv("AIS_DOUBLE", "silent")
    capsys.readouterr()
    assert call("--device", device) == 2
    told = "infer.run: error: out/run_summary.json: the tool left no summary; read its messages above\n"
    assert capsys.readouterr().err == told
    assert not Path("out/run_run.json").exists()


def test_a_device_without_a_summary(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIS_DOUBLE", "silent")
    assert call("--device", "0,1") == 2
    told = "infer.run: error: out/run_device0_0_summary.json: the tool left no summary; read its messages above\n"
    assert capsys.readouterr().err == told


def test_a_tool_that_does_not_divide(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIS_DOUBLE", "undivided")
    assert call("--device", "0,1") == 2
    told = "infer.run: error: out/run_device1_1_summary.json: img0 was inferred twice, by another device too\n"
    assert capsys.readouterr().err == told
    assert not Path("out/run_run.json").exists()


def test_an_output_folder_that_is_too_wide(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    os.chmod("out", 0o755)
    assert call() == 2
    told = capfd.readouterr().err
    assert "output path:out is illegal. Please check. has mode 0755" in told
    assert told.endswith("infer.run: error: -m ais_bench refused what it was given, see above\n")


HINT = "set AIS_PYTHON to the python that has ais_bench\n"


@pytest.mark.parametrize(
    "python, line",
    [
        ("python_of_nobody", f"python_of_nobody: no such interpreter; {HINT}"),
        (sys.executable, f"{sys.executable}: this python has no ais_bench; {HINT}"),
        ("/bin/false", f"/bin/false: does not work as a python (found exit 1); {HINT}"),
    ],
)
def test_no_python_with_ais_bench(
    images: np.ndarray, capfd: pytest.CaptureFixture[str], python: str, line: str
) -> None:
    assert call() == 0
    capfd.readouterr()
    assert call(python=python) == 2
    assert capfd.readouterr() == ("", f"infer.run: error: {line}")
    assert Path("out/run_run.json").exists(), "nothing was touched"


def test_devices_that_are_none(images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call("--device", "0,")
    assert stopped.value.code == 2
    expected = "error: argument --device: expected a device's id, or several with commas, such as 0,1, found 0,\n"
    assert capsys.readouterr().err.endswith(expected)


def test_the_twin_has_one_device(images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--model", "m.onnx", "--input", "in", "--output", "out", "--output_dirname", "run"]
    assert infer_run.main([*where, "--device", "0,1"]) == 2
    assert capsys.readouterr().err == (
        "infer.run: error: the twin of ais_bench has one device (expected --device 0, found 0,1); DEVICE=0, or "
        "BACKEND=ascend for several\n"
    )
    assert not Path("out").exists()
