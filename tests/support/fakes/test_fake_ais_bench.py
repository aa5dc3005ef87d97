"""The fake of ais_bench 0.0.2 does what the real one was seen to do: errors, names, files, messages, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.fakes import AIS_BENCH
from tests.support.linear_model import check_logits, om_model, prep_folder


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A directory with m.om for batches of 4, eleven inputs in `in`, an empty `out`."""
    monkeypatch.chdir(tmp_path)
    om_model(Path("m.om"), 4)
    Path("out").mkdir(mode=0o750)
    return prep_folder(Path("in"), 11)


def call(*more: str) -> subprocess.CompletedProcess[str]:
    words = ["--model", "m.om", "--input", "in", "--output", "out", "--output_dirname", "run", *more]
    environment = {**os.environ, "PYTHONPATH": str(AIS_BENCH)}
    command = [sys.executable, "-m", "ais_bench", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_fake_writes_outputs_summary_and_screen_text(images: np.ndarray) -> None:
    done = call("--batchsize", "4")
    assert (done.returncode, done.stderr) == (0, "")
    check_logits(images)  # the padding is not written
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert summary["filesinfo"]["2"] == {"infiles": ["in/img2.bin"], "outfiles": ["out/run/img2_0.bin"]}
    assert list(summary["filesinfo"]) == [str(i) for i in range(11)], "img2 is before img10"
    assert summary["filesinfo"]["10"]["infiles"] == ["in/img10.bin"]
    compute = summary["NPU_compute_time"]
    assert list(compute) == ["min", "max", "mean", "median", "percentile(99%)", "count"]
    assert compute["count"] == len(summary["npu_compute_time_list"]) == 3
    assert summary["throughput"] == pytest.approx(4000 / compute["mean"])
    mean, throughput = compute["mean"], summary["throughput"]
    assert done.stdout.splitlines()[2].startswith(f"[INFO] NPU_compute_time (ms): min = {compute['min']}, max = ")
    line = f"[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean({mean}): {throughput}"
    assert line in done.stdout.splitlines()


def test_the_fake_writes_npy_and_txt(images: np.ndarray) -> None:
    assert call("--outfmt", "NPY").returncode == 0
    assert np.load("out/run/img3_0.npy").shape == (1, 5)
    assert call("--outfmt", "TXT").returncode == 0
    text = "".join(f"{value:f} " for value in np.load("out/run/img3_0.npy")[0]) + "\n"
    assert Path("out/run/img3_0.txt").read_text() == text


def test_the_fake_runs_without_inputs(images: np.ndarray) -> None:
    words = ["--model=m.om", "--output=out", "--output_dirname=pure", "--loop=5", "--pure_data_type=zero"]
    command = [sys.executable, "-m", "ais_bench", *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(AIS_BENCH)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir("out/pure") == ["pure_infer_data_0.bin"]
    assert not np.fromfile("out/pure/pure_infer_data_0.bin", np.float32).any(), "a whole batch of zeros gives zeros"
    assert os.path.getsize("out/pure/pure_infer_data_0.bin") == 4 * 5 * 4
    summary = json.loads(Path("out/pure_summary.json").read_text())
    outfiles = ["out/pure/pure_infer_data_0.bin"]
    assert summary["filesinfo"] == {"0": {"infiles": ["pure_infer_data"], "outfiles": outfiles}}
    assert len(summary["npu_compute_time_list"]) == 5
    assert summary["throughput"] == pytest.approx(4000 / np.mean(summary["npu_compute_time_list"]))


REJECTED = {
    "out at 0755": (lambda: os.chmod("out", 0o755), 2, "output path:out is illegal. Please check. has mode 0755"),
    "link": (lambda: os.symlink("img1.bin", "in/x.bin"), 1, "input path:in/x.bin is illegal."),
    "open input": (lambda: os.chmod("in/img1.bin", 0o660), 1, "input path:in/img1.bin is illegal."),
    "open manifest": (lambda: os.chmod("in/manifest.json", 0o664), 1, "input path:in/manifest.json is illegal."),
    "apostrophe": (lambda: os.link("in/img1.bin", "in/potter's_wheel.bin"), 1, "potter's_wheel.bin is illegal."),
    "folder": (lambda: os.rename("in", "other"), 2, "input path:in is illegal. Please check. not exist"),
    "no om": (lambda: Path("m.om").write_bytes(b"text"), 1, "load model from file failed"),
    "size": (lambda: os.truncate("in/img0.bin", 100), 1, "arg0 tensorsize: 768 filesize: 100 not match"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_the_fake_rejects_what_the_tool_rejects(images: np.ndarray, what: str) -> None:
    action, code, line = REJECTED[what]
    action()
    done = call()
    assert done.returncode == code and line in done.stderr
    assert not Path("out/run_summary.json").exists()


@pytest.mark.parametrize(
    "words", [["--outfmt", "PNG"], ["--device", "256"], ["--divide_input", "maybe"], ["--new", "1"]]
)
def test_invalid_arguments_exit_2(images: np.ndarray, words: list[str]) -> None:
    assert call(*words).returncode == 2


def test_the_fake_accepts_the_same_wrong_inputs_as_the_tool(images: np.ndarray) -> None:
    """Names are cut at their first dot, so two inputs share one output. The dtype is not checked, so float16 is
    accepted: the number of bytes of an input must only divide that of a batch."""
    os.rename("in/img1.bin", "in/img0.v1.bin")
    assert call().returncode == 0
    assert sorted(os.listdir("out/run")) == sorted(f"img{i}_0.bin" for i in (0, *range(2, 11)))
    for name in os.listdir("in"):
        os.unlink(f"in/{name}")
    np.save("in/half.npy", images[0].astype(np.float16))
    assert call().returncode == 0
    assert Path("out/run/half_0.bin").exists()


def test_each_of_several_devices_infers_all_inputs(images: np.ndarray) -> None:
    done = call("--device", "0,2")
    assert done.returncode == 0
    assert sorted(os.listdir("out/run")) == [
        "device0_0",
        "device0_0_summary.json",
        "device2_1",
        "device2_1_summary.json",
    ]
    assert not Path("out/run_summary.json").exists()
    for name in ("device0_0", "device2_1"):
        check_logits(images, f"out/run/{name}")
    rates = [
        json.loads(Path(f"out/run/{name}_summary.json").read_text())["throughput"]
        for name in ("device0_0", "device2_1")
    ]
    assert done.stdout.splitlines()[-1] == f"[INFO] summary throughput:{sum(rates)}"


def test_inputs_can_be_divided_and_a_device_can_fail(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("--device", "0,1", "--divide_input", "1").returncode == 0
    first, second = os.listdir("out/run/device0_0"), os.listdir("out/run/device1_1")
    assert sorted(first) == [f"img{i}_0.bin" for i in range(6)] and len(second) == 5
    monkeypatch.setenv("FAKE_AIS_BENCH", "device1")
    done = call("--device", "0,1", "--divide_input", "1", "--output_dirname", "again")
    assert done.returncode == 1
    assert "[ERROR] subprocess run failed error_callback:acl init failed, device 1" in done.stdout
    assert len(os.listdir("out/again/device0_0")) == 6 and not os.listdir("out/again/device1_1")
