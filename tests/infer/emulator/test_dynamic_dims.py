"""Models with gears, by the twin and by `infer.run` on both tools: shapes set from each file, others refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.io import tensors
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import make_folder
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from infer.emulator import dynamic_dims, main
from infer.runtimes.base import Runtime
from tests import fakes
from tests.infer.models import GEARS, gear_folder, gear_model, linear_model

COUNT = 8
NO_GEAR = "the dynamic_dims parameter is not correct (expected one of the model's 3 gears: 1,3,4,4; 1,3,4,8; 1,3,6,4"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A place to stand in: m.onnx and m.om with gears, eight inputs in `in`, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT))
    gear_model(Path("m.onnx"))
    gear_model(Path("m.om"))
    fakes.ais_python(tmp_path)
    make_folder("out")
    return gear_folder(Path("in"), COUNT)


def twin(*more: str, model: str = "m.onnx") -> int:
    return main.main(["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", *more])


def double(*more: str) -> subprocess.CompletedProcess[str]:
    words = ["--model", "m.om", "--input", "in", "--output", "out", "--output_dirname", "run", *more]
    return subprocess.run(["./python_npu", "-m", "ais_bench", *words], capture_output=True, text=True)


def run(backend: str, *more: str) -> int:
    where = ["--model", "m.om" if backend == "ascend" else "m.onnx", "--input", "in", "--output", "out"]
    return infer_run.main(
        [*where, "--output_dirname", "run", "--backend", backend, "--ais_python", "./python_npu", *more]
    )


def check_files(images: list[np.ndarray]) -> None:
    assert sorted(os.listdir("out/run")) == sorted(f"img{i}_{k}.npy" for i in range(COUNT) for k in range(2))
    for i, image in enumerate(images):
        means, twice = (np.load(f"out/run/img{i}_{k}.npy") for k in range(2))
        np.testing.assert_array_equal(twice, 2 * image)
        np.testing.assert_allclose(means, image.mean(axis=(2, 3), keepdims=True), atol=1e-6)


AUTO = ("--auto_set_dymdims_mode", "1")


def test_each_file_sets_the_shape(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert twin("--outfmt", "NPY", *AUTO) == 0
    check_files(images)
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert list(summary["filesinfo"]) == [str(i) for i in range(COUNT)]
    assert summary["filesinfo"]["2"] == {
        "infiles": ["in/img2.npy"],
        "outfiles": ["out/run/img2_0.npy", "out/run/img2_1.npy"],
    }
    assert len(summary["npu_compute_time_list"]) == COUNT
    assert "throughput 1000*batchsize.mean(1)/" in capsys.readouterr().out


def test_one_shape_for_all(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(COUNT):
        if i % 3 != 1:
            os.unlink(f"in/img{i}.npy")
    images[1].tofile("in/raw.bin")
    assert twin("--dymDims", "image:1,3,4,8", "--outfmt", "NPY") == 0
    assert sorted(os.listdir("out/run")) == sorted(
        f"{stem}_{k}.npy" for stem in ("img1", "img4", "img7", "raw") for k in (0, 1)
    )
    for stem, image in {"img1": images[1], "img4": images[4], "raw": images[1]}.items():
        np.testing.assert_array_equal(np.load(f"out/run/{stem}_1.npy"), 2 * image)
    assert twin("--dymDims", "image:1,3,5,5") == 1
    assert capsys.readouterr().err == (f"infer.emulator: failed: --dymDims: {NO_GEAR}, found 1,3,5,5)\n")
    for wrong in ("1,3,4,8", "input:1,3,4,8", "image:1,3,4,-1"):
        assert twin("--dymDims", wrong) == 1
        told = f"infer.emulator: failed: --dymDims (expected image:1,3,512,640, found {wrong})\n"
        assert capsys.readouterr().err == told


def odd_shape() -> None:
    tensors.write_output(Path("in/img3.npy"), np.zeros((1, 3, 5, 4), np.float32))


def without_batch() -> None:
    tensors.write_output(Path("in/img3.npy"), np.zeros((3, 4, 4), np.float32))


def a_bin() -> None:
    os.unlink("in/img3.npy")
    np.zeros((1, 3, 4, 4), np.float32).tofile("in/img3.bin")


REFUSED = {
    "no gear": (
        odd_shape,
        f"in/img3.npy: {NO_GEAR}, found 1,3,5,4)\n",
    ),
    "no batch axis": (
        without_batch,
        f"in/img3.npy: {NO_GEAR}, found 3,4,4)\n",
    ),
    "bin": (a_bin, "in/img3.bin: holds no shape for --auto_set_dymdims_mode (expected .npy, found .bin)\n"),
    "cut": (
        lambda: os.truncate("in/img3.npy", 150),
        "in/img3.npy: is no readable npy: ",
    ),
    "dtype": (
        lambda: tensors.write_output(Path("in/img3.npy"), np.zeros((1, 3, 4, 4), np.float16)),
        "in/img3.npy: dtype (expected float32, as the model's input, found float16)\n",
    ),
}


@pytest.mark.parametrize("error", REFUSED)
def test_inputs_are_looked_at_before_any_is_computed(
    images: list[np.ndarray], capsys: pytest.CaptureFixture[str], error: str
) -> None:
    spoil, message = REFUSED[error]
    spoil()
    assert twin(*AUTO) == 1
    assert capsys.readouterr().err.startswith(f"infer.emulator: failed: {message}")
    assert os.listdir("out/run") == [] and not Path("out/run_summary.json").exists()


def test_gears_must_be_set_and_a_static_model_has_none(
    images: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    assert twin() == 1
    assert capsys.readouterr().err == (
        "infer.emulator: failed: the model has 3 gears and none is set (expected --auto_set_dymdims_mode 1 or "
        "--dymDims)\n"
    )
    linear_model(Path("static.onnx"), 1)
    for flags in (AUTO, ("--dymDims", "image:1,3,4,4")):
        assert twin(*flags, model="static.onnx") == 1
        assert capsys.readouterr().err == (
            "infer.emulator: failed: the dynamic_dims parameter is not specified for model conversion; leave out "
            "--auto_set_dymdims_mode and --dymDims\n"
        )


def test_the_double_refuses_what_the_tool_refuses(images: list[np.ndarray]) -> None:
    done = double(*AUTO, "--outfmt", "NPY")
    assert (done.returncode, done.stderr) == (0, "")
    check_files(images)
    done = double()
    assert done.returncode == 1 and "the model has gears of dims, and none is set" in done.stderr
    done = double("--dymDims", "image:1,3,5,5")
    assert done.returncode == 1 and "the dynamic_dims parameter is not correct" in done.stderr
    assert "model has 3 gear of dims" in done.stdout
    for spoil in (odd_shape, a_bin):
        spoil()
        done = double(*AUTO)
        assert done.returncode == 1 and "the dynamic_dims parameter is not correct" in done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "ascend"])
def test_infer_sets_the_mode_and_records_it(images: list[np.ndarray], backend: str) -> None:
    assert run(backend) == 0
    check_files(images)
    record = RunRecord.read("out/run_run.json")
    told = " ".join(record.command).partition("--model ")[2]
    model = "m.om" if backend == "ascend" else "m.onnx"
    assert told == (
        f"{model} --input in --output out --output_dirname run --outfmt NPY --batchsize 1 --device 0 "
        "--auto_set_dymdims_mode 1"
    )
    assert record.files == {f"img{i}": [f"img{i}_0.npy", f"img{i}_1.npy"] for i in range(COUNT)}
    assert [output.shape for output in record.outputs] == [[1, 3, 1, 1], [1, 3, -1, -1]]
    assert (record.batch, record.images, record.kept) == (1, COUNT, 0)


def test_devices_share_the_gears(images: list[np.ndarray]) -> None:
    assert run("ascend", "--device", "0,1") == 0
    check_files(images)


def test_a_killed_run_resumes_though_sizes_vary(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIS_DOUBLE", "killed")
    assert run("ascend") == 1
    monkeypatch.delenv("AIS_DOUBLE")
    assert run("ascend") == 0
    assert "1 of 8 inputs were finished before and are kept" in capfd.readouterr().out, "the half-written one is not"
    assert RunRecord.read("out/run_run.json").kept == 1
    check_files(images)


def test_free_disk_is_asked_by_gear(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: asked.append(need))
    assert run("onnxruntime") == 0
    assert asked == [sum(image.nbytes + 3 * 4 for image in images)]


def test_faults_of_the_user(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("onnxruntime", "--outfmt", "BIN") == 2
    assert capsys.readouterr().err == (
        "infer.run: error: --outfmt of a model with gears (expected NPY, which holds a shape, found BIN)\n"
    )
    manifest = Path("in/manifest.json").read_text()
    Path("in/manifest.json").write_text(manifest.replace("[3, 6, 4]", "[3, 6, 6]"))
    assert run("onnxruntime") == 2
    assert capsys.readouterr().err == (
        "infer.run: error: in: inputs do not fit m.onnx (expected float32[3, -1, -1] at a gear, found float32[3, 6, 6])"
        "; give make om and make preprocess the same MODEL and INPUT\n"
    )
    Path("in/manifest.json").write_text(manifest.replace('"npy"', '"bin"'))
    assert run("onnxruntime") == 2
    assert capsys.readouterr().err == (
        "infer.run: error: in: inputs hold no shape (expected .npy, found .bin); run make preprocess\n"
    )


def test_an_output_of_another_gear_is_found_out(images: list[np.ndarray]) -> None:
    """The sizes that are expected follow the image, not the model."""
    assert run("onnxruntime") == 0
    os.unlink("out/run_run.json")
    os.replace("out/run/img1_1.npy", "out/run/img0_1.npy")
    assert run("onnxruntime") == 0
    assert RunRecord.read("out/run_run.json").kept == COUNT - 2
    check_files(images)


class Known(Runtime):
    def __init__(self, shape: list[int], dynamic_dims: str) -> None:
        self.inputs, self.dynamic_dims = [TensorInfo("x", "uint8", shape)], dynamic_dims

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError


def test_gears_stand_where_the_free_axes_are() -> None:
    assert Known([1, -1, -1, 3], "512,640;64,32").gears() == [[1, 512, 640, 3], [1, 64, 32, 3]]
    assert Known([1, 3, 4, 4], "").gears() == []


@given(st.sampled_from(GEARS) | st.lists(st.integers(0, 9), max_size=5))
def test_only_a_gear_passes(shape: list[int]) -> None:
    if shape in GEARS:
        dynamic_dims.check_gear(shape, GEARS, "x")
    else:
        with pytest.raises(UserError, match="x: the dynamic_dims parameter is not correct"):
            dynamic_dims.check_gear(shape, GEARS, "x")
