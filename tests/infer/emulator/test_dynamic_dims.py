"""Models with gears, in the emulator and in `infer.run` with both tools: the shape of each input selects its gear."""

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
from infer.emulator import dynamic_dims, main, path_checks
from infer.runtimes import onnxruntime_runtime
from infer.runtimes.base import Runtime
from tests.support.errors import check_error
from tests.support.gear_model import COUNT, GEARS, check_gear_outputs
from tests.support.linear_model import linear_model, remove_records

NO_GEAR = ("the dynamic_dims parameter is not correct", "1,3,4,4; 1,3,4,8; 1,3,6,4")


@pytest.fixture
def images(gear_images: list[np.ndarray]) -> list[np.ndarray]:
    make_folder("out")
    return gear_images


def emulate(*more: str, model: str = "m.onnx") -> int:
    return main.main(["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", *more])


def fake(*more: str) -> subprocess.CompletedProcess[str]:
    words = ["--model", "m.om", "--input", "in", "--output", "out", "--output_dirname", "run", *more]
    return subprocess.run(["./python_npu", "-m", "ais_bench", *words], capture_output=True, text=True)


def run(backend: str, *more: str) -> int:
    where = ["--model", "m.om" if backend == "ascend" else "m.onnx", "--inputs", "in", "--output", "out/run"]
    return infer_run.main([*where, "--backend", backend, "--ais_python", "./python_npu", *more])


def check_files(images: list[np.ndarray]) -> None:
    check_gear_outputs(images, "out/run")


def test_the_largest_images_are_computed_first(images: list[np.ndarray]) -> None:
    runtime = onnxruntime_runtime.load("m.onnx", 1, 1)
    found = dynamic_dims.pipeline(runtime, path_checks.list_inputs("in"), Path("out"), "npy", True, None, False)
    sizes = [found.inputs[at].stat().st_size for at in found.order()]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] and len(sizes) == COUNT


AUTO = ("--auto_set_dymdims_mode", "1")


def test_the_shape_of_each_input_selects_its_gear(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert emulate("--outfmt", "NPY", *AUTO) == 0
    check_files(images)
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert list(summary["filesinfo"]) == [str(i) for i in range(COUNT)]
    assert summary["filesinfo"]["2"] == {
        "infiles": ["in/img2.npy"],
        "outfiles": ["out/run/img2_0.npy", "out/run/img2_1.npy"],
    }
    assert len(summary["npu_compute_time_list"]) == COUNT
    assert "throughput 1000*batchsize.mean(1)/" in capsys.readouterr().out


def test_one_shape_is_set_for_all_files(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(COUNT):
        if i % 3 != 1:
            os.unlink(f"in/img{i}.npy")
    images[1].tofile("in/raw.bin")
    assert emulate("--dymDims", "image:1,3,4,8", "--outfmt", "NPY") == 0
    assert sorted(os.listdir("out/run")) == sorted(
        f"{stem}_{k}.npy" for stem in ("img1", "img4", "img7", "raw") for k in (0, 1)
    )
    for stem, image in {"img1": images[1], "img4": images[4], "raw": images[1]}.items():
        np.testing.assert_array_equal(np.load(f"out/run/{stem}_1.npy"), 2 * image)
    assert emulate("--dymDims", "image:1,3,5,5") == 1
    check_error(capsys.readouterr().err, "infer.emulator", "--dymDims", *NO_GEAR, "found 1,3,5,5")
    for wrong in ("1,3,4,8", "input:1,3,4,8", "image:1,3,4,-1"):
        assert emulate("--dymDims", wrong) == 1
        check_error(capsys.readouterr().err, "infer.emulator", "--dymDims", "image:1,3,512,640", f"found {wrong}")


def odd_shape() -> None:
    tensors.write_output(Path("in/img3.npy"), np.zeros((1, 3, 5, 4), np.float32))


def without_batch() -> None:
    tensors.write_output(Path("in/img3.npy"), np.zeros((3, 4, 4), np.float32))


def a_bin() -> None:
    os.unlink("in/img3.npy")
    np.zeros((1, 3, 4, 4), np.float32).tofile("in/img3.bin")


REJECTED = {
    "no gear": (odd_shape, ("in/img3.npy: ", *NO_GEAR, "found 1,3,5,4")),
    "no batch axis": (without_batch, ("in/img3.npy: ", *NO_GEAR, "found 3,4,4")),
    "bin": (a_bin, ("in/img3.bin: ", "--auto_set_dymdims_mode", "expected .npy")),
    "truncated": (lambda: os.truncate("in/img3.npy", 150), ("in/img3.npy: ",)),
    "dtype": (
        lambda: tensors.write_output(Path("in/img3.npy"), np.zeros((1, 3, 4, 4), np.float16)),
        ("in/img3.npy: ", "expected float32", "found float16"),
    ),
}


@pytest.mark.parametrize("error", REJECTED)
def test_inputs_are_checked_before_any_is_computed(
    images: list[np.ndarray], capsys: pytest.CaptureFixture[str], error: str
) -> None:
    change, parts = REJECTED[error]
    change()
    assert emulate(*AUTO) == 1
    check_error(capsys.readouterr().err, "infer.emulator", *parts)
    assert os.listdir("out/run") == [] and not Path("out/run_summary.json").exists()


def test_gears_must_be_set_and_a_static_model_has_none(
    images: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    assert emulate() == 1
    check_error(capsys.readouterr().err, "infer.emulator", "3 gears", "--auto_set_dymdims_mode 1", "--dymDims")
    linear_model(Path("static.onnx"), 1)
    for flags in (AUTO, ("--dymDims", "image:1,3,4,4")):
        assert emulate(*flags, model="static.onnx") == 1
        check_error(capsys.readouterr().err, "infer.emulator", "the dynamic_dims parameter is not specified")


def test_fake_rejects_what_the_tool_rejects(images: list[np.ndarray]) -> None:
    done = fake(*AUTO, "--outfmt", "NPY")
    assert (done.returncode, done.stderr) == (0, "")
    check_files(images)
    done = fake()
    assert done.returncode == 1 and "the model has gears of dims, and none is set" in done.stderr
    done = fake("--dymDims", "image:1,3,5,5")
    assert done.returncode == 1 and "the dynamic_dims parameter is not correct" in done.stderr
    assert "model has 3 gear of dims" in done.stdout
    for change in (odd_shape, a_bin):
        change()
        done = fake(*AUTO)
        assert done.returncode == 1 and "the dynamic_dims parameter is not correct" in done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "ascend"])
def test_infer_sets_the_mode_and_records_it(images: list[np.ndarray], backend: str) -> None:
    assert run(backend) == 0
    check_files(images)
    record = RunRecord.read("out/run_run.json")
    model = "m.om" if backend == "ascend" else "m.onnx"
    assert " ".join(record.command).partition("--model ")[2] == (
        f"{model} --input in --output out --output_dirname run --outfmt NPY --batchsize 1 --device 0 "
        "--auto_set_dymdims_mode 1" + (" --warmup_count 0" if backend == "onnxruntime" else "")
    )
    assert record.files == {f"img{i}": [f"img{i}_0.npy", f"img{i}_1.npy"] for i in range(COUNT)}
    assert [output.shape for output in record.outputs] == [[1, 3, 1, 1], [1, 3, -1, -1]]
    assert (record.batch, record.images, record.kept) == (1, COUNT, 0)


def test_a_killed_run_resumes(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "killed")
    assert run("ascend") == 1
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert run("ascend") == 0
    assert "1 of 8 inputs were finished before and are kept" in capfd.readouterr().out, "the partial one is not"
    assert RunRecord.read("out/run_run.json").kept == 1
    check_files(images)


def test_free_disk_is_checked_for_the_gears(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    needs: list[int] = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: needs.append(need))
    assert run("onnxruntime") == 0
    assert needs == [sum(image.nbytes + 3 * 4 for image in images)]


def test_user_errors_are_reported_in_one_line(images: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("onnxruntime", "--outfmt", "BIN") == 2
    check_error(capsys.readouterr().err, "infer.run", "--outfmt", "expected NPY", "found BIN")
    manifest = Path("in/manifest.json").read_text()
    Path("in/manifest.json").write_text(manifest.replace("[3, 6, 4]", "[3, 6, 6]"))
    assert run("onnxruntime") == 2
    check_error(capsys.readouterr().err, "infer.run", "in: ", "m.onnx", "float32[3, -1, -1]", "float32[3, 6, 6]")
    Path("in/manifest.json").write_text(manifest.replace('"npy"', '"bin"'))
    assert run("onnxruntime") == 2
    check_error(capsys.readouterr().err, "infer.run", "in: ", "expected .npy", "found .bin", "make preprocess")


def test_an_output_of_another_gear_is_computed_again(images: list[np.ndarray]) -> None:
    """The expected size is that of the image's gear."""
    assert run("onnxruntime") == 0
    remove_records()
    os.replace("out/run/img1_1.npy", "out/run/img0_1.npy")
    assert run("onnxruntime") == 0
    assert RunRecord.read("out/run_run.json").kept == COUNT - 2
    check_files(images)


class Known(Runtime):
    def __init__(self, shape: list[int]) -> None:
        self.inputs = [TensorInfo("x", "uint8", shape)]

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError


def test_gears_fill_the_dynamic_axes() -> None:
    assert Known([1, -1, -1, 3]).read_gears("512,640;64,32") == [[1, 512, 640, 3], [1, 64, 32, 3]]
    assert Known([1, 3, 4, 4]).read_gears("") == []


@given(st.sampled_from(GEARS) | st.lists(st.integers(0, 9), max_size=5))
def test_only_gears_are_accepted(shape: list[int]) -> None:
    if shape in GEARS:
        dynamic_dims.check_gear(shape, GEARS, "x")
    else:
        with pytest.raises(UserError) as error:
            dynamic_dims.check_gear(shape, GEARS, "x")
        assert error.value.where == "x"
