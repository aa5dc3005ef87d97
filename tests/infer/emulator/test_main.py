"""The emulator behaves as ais_bench 0.0.2 (https://gitee.com/ascend/tools)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet.io import tensor_names, tensors
from hrnet.io.files import make_folder
from infer.emulator import main
from infer.emulator.pipeline import SharedClock
from tests.support.errors import check_error
from tests.support.linear_model import CLASSES, SHAPE, check_logits, expected_logits, linear_model, prep_folder

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths, since pytest's temporary path may have characters that ais_bench rejects."""
    monkeypatch.chdir(tmp_path)
    make_folder("out")
    return tmp_path


def call(*more: str, model: str = "m.onnx") -> int:
    return main.main(["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", *more])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 11), batch=st.integers(1, 5), outfmt=st.sampled_from(tensor_names.OUTPUT_FORMATS))
def test_outputs_do_not_depend_on_the_batch(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, outfmt: str
) -> None:
    folder = tmp_path_factory.mktemp("emulator")
    before = Path.cwd()
    os.chdir(folder)
    try:
        make_folder("out")
        images = prep_folder(Path("in"), count)
        linear_model(Path("m.onnx"), batch, outputs=2)
        assert call("--outfmt", outfmt) == 0
        ending = outfmt.lower()
        assert sorted(os.listdir("out/run")) == sorted(f"img{i}_{k}.{ending}" for i in range(count) for k in range(2))
        for i, logits in enumerate(expected_logits(images)):
            found = tensors.read_output(Path(f"out/run/img{i}_0.{ending}"))
            np.testing.assert_allclose(found.reshape(-1), logits, rtol=1e-5, atol=1e-5)
            twice = tensors.read_output(Path(f"out/run/img{i}_1.{ending}"))
            np.testing.assert_allclose(twice.reshape(-1), 2 * images[i].reshape(-1), atol=1e-6)
    finally:
        os.chdir(before)


def test_npy_outputs_keep_the_batch_axis(workdir: Path) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 2, outputs=2)
    assert call("--outfmt", "NPY") == 0
    assert np.load("out/run/img2_0.npy").shape == (1, CLASSES)
    assert np.load("out/run/img2_1.npy").shape == (1, *SHAPE)


@pytest.mark.parametrize("suffix, pixels", [("npy", False), ("bin", True), ("npy", True)])
def test_npy_and_uint8_inputs_are_read(workdir: Path, suffix: str, pixels: bool) -> None:
    images = prep_folder(Path("in"), 5, suffix, pixels)
    linear_model(Path("m.onnx"), 2, pixels=pixels)
    assert call() == 0
    floats = images.transpose(0, 3, 1, 2).astype(np.float32) if pixels else images
    check_logits(floats, tolerance=1e-3 if pixels else 1e-5)


def test_npy_of_another_dtype_is_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2, "npy")
    linear_model(Path("m.onnx"), 2, pixels=True)
    assert call() == 1
    check_error(capsys.readouterr().err, "infer.emulator", "in/img0.npy: ", "expected uint8", "found float32")


def test_summary_and_messages_are_those_of_ais_bench(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 12)
    linear_model(Path("m.onnx"), 4)
    assert call("--batchsize", "4") == 0
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert list(summary["filesinfo"])[:3] == ["0", "1", "2"]
    assert summary["filesinfo"]["2"] == {"infiles": ["in/img2.bin"], "outfiles": ["out/run/img2_0.bin"]}
    assert summary["filesinfo"]["11"]["infiles"] == ["in/img11.bin"], "natural order: img2 before img10"
    times = summary["npu_compute_time_list"]
    assert len(times) == 3
    assert list(summary["NPU_compute_time"]) == ["min", "max", "mean", "median", "percentile(99%)", "count"]
    assert summary["NPU_compute_time"]["mean"] == pytest.approx(np.mean(times))
    assert summary["throughput"] == pytest.approx(1000 * 4 / np.mean(times))
    assert summary["pid"] == os.getpid() and summary["args"]["batchsize"] == 4
    screen = capsys.readouterr().out
    mean = summary["NPU_compute_time"]["mean"]
    assert (
        f"[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean({mean}): {summary['throughput']}\n" in screen
    )
    assert screen.splitlines()[1].startswith("[INFO] NPU_compute_time (ms): min = ")


def test_device_times_add_up_to_the_computing_time(workdir: Path) -> None:
    prep_folder(Path("in"), 40)
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert sum(summary["npu_compute_time_list"]) / 1000 <= summary["host_seconds"]["total"]
    assert summary["host_seconds"]["infer"] == pytest.approx(sum(summary["npu_compute_time_list"]) / 1000)


def test_outputs_have_the_modes_of_ais_bench(workdir: Path) -> None:
    prep_folder(Path("in"), 1)
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    assert stat.S_IMODE(os.stat("out/run").st_mode) == 0o750
    assert stat.S_IMODE(os.stat("out/run/img0_0.bin").st_mode) == 0o640


def test_the_stem_ends_at_the_first_dot(workdir: Path) -> None:
    prep_folder(Path("in"), 1)
    os.rename("in/img0.bin", "in/img0.v1.bin")
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    assert os.listdir("out/run") == ["img0_0.bin"]


def clear_inputs() -> None:
    for name in os.listdir("in"):
        os.unlink(f"in/{name}")


REJECTED: dict[str, tuple[Callable[[], object], int, tuple[str, ...]]] = {
    "link": (lambda: os.symlink("img0.bin", "in/link.bin"), 2, ("in/link.bin: ", "symbolic link")),
    "characters": (lambda: Path("in/potter's.bin").touch(0o640), 2, ("in/potter's.bin: ", "A-Za-z0-9_-/.")),
    "writable": (lambda: os.chmod("in/manifest.json", 0o664), 2, ("in/manifest.json: ", "chmod go-w in/manifest.json")),
    "stems": (lambda: os.link("in/img0.bin", "in/img0.v1.bin"), 2, ("in: ", "found img0")),
    "open output": (lambda: os.chmod("out", 0o755), 2, ("out: ", "at most 0750", "found 0755", "chmod 750 out")),
    "no model": (lambda: os.unlink("m.onnx"), 2, ("m.onnx: ", "run make om")),
    "no input": (clear_inputs, 2, ("in: ", "run make preprocess")),
    "truncated model": (lambda: os.truncate("m.onnx", 100), 1, ("m.onnx: ", "onnxruntime cannot load the model")),
}


@pytest.mark.parametrize("error", REJECTED)
def test_invalid_inputs_are_rejected(workdir: Path, capsys: pytest.CaptureFixture[str], error: str) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 2)
    change, code, parts = REJECTED[error]
    change()
    assert call() == code
    err = capsys.readouterr().err
    check_error(err, "infer.emulator", *parts)
    assert err.count("\n") == 1 and not Path("out/run_summary.json").exists()


def test_dynamic_batch_is_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 1)
    linear_model(Path("m.onnx"), 2)
    model = onnx.load("m.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, "m.onnx")
    assert call() == 1
    check_error(capsys.readouterr().err, "infer.emulator", "input image", "[-1, 3, 4, 4]", "make om")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--outfmt", "PNG"],
        ["--divide_input", "2"],
        ["--loop", "0"],
        ["--pure_data_type", "one"],
        ["--dymBatch", "4"],
        ["--display_all_summary", "maybe"],
    ],
)
def test_bad_arguments_exit_2(workdir: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_without_inputs_one_batch_is_computed_repeatedly(workdir: Path, kind: str) -> None:
    linear_model(Path("m.onnx"), 4, outputs=2)
    words = ["--model", "m.onnx", "--output", "out", "--output_dirname", "run", "--pure_data_type", kind]
    assert main.main([*words, "--loop", "7", "--requests", "1"]) == 0
    assert sorted(os.listdir("out/run")) == ["pure_infer_data_0.bin", "pure_infer_data_1.bin"]
    twice = np.fromfile("out/run/pure_infer_data_1.bin", np.float32)
    assert twice.size == 4 * 48 and np.array_equal(twice, np.zeros(4 * 48)) is (kind == "zero")
    summary = json.loads(Path("out/run_summary.json").read_text())
    outfiles = [f"out/run/pure_infer_data_{k}.bin" for k in range(2)]
    assert summary["filesinfo"] == {"0": {"infiles": ["pure_infer_data"], "outfiles": outfiles}}
    times = summary["npu_compute_time_list"]
    assert len(times) == 7 and summary["throughput"] == pytest.approx(1000 * 4 / np.mean(times))
    assert summary["host_seconds"]["read"] == summary["host_seconds"]["write"] == 0


def test_loop_computes_each_batch_repeatedly(workdir: Path) -> None:
    images = prep_folder(Path("in"), 5)
    linear_model(Path("m.onnx"), 2)
    assert call("--loop", "3") == 0
    check_logits(images)
    assert json.loads(Path("out/run_summary.json").read_text())["NPU_compute_time"]["count"] == 3 * 3


def test_time_is_shared_among_concurrent_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is alone for 4 s, then both run for 6 s. They get 4 + 6 / 2 s and 6 / 2 s, in total the 10 s
    that passed."""
    moments = iter([100.0, 104.0, 110.0, 110.0])
    monkeypatch.setattr("infer.emulator.pipeline.time.perf_counter", lambda: next(moments))
    clock = SharedClock()
    first = clock.start()
    second = clock.start()
    assert (clock.stop() - first, clock.stop() - second) == (7.0, 3.0)


def test_several_devices_are_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--device", "0,1", "--divide_input", "1") == 2
    check_error(capsys.readouterr().err, "infer.emulator", "expected --device 0", "found 0,1", "BACKEND=ascend")


def test_paths_with_a_space_are_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(model="my model.onnx") == 2
    check_error(capsys.readouterr().err, "infer.emulator", "my model.onnx: ", "A-Za-z0-9_-/.")


def test_the_flipped_pass_needs_inputs(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linear_model(Path("m.onnx"), 2)
    words = ["--model", "m.onnx", "--output", "out", "--output_dirname", "run", "--output_flip", "flip/run"]
    assert main.main(words) == 2
    check_error(capsys.readouterr().err, "infer.emulator", "--output_flip", "--input")
