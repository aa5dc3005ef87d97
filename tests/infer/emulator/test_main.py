"""The twin obeys ais_bench's contract (ASCEND.md section 2)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet.io import tensors
from hrnet.io.files import make_folder
from infer.emulator import main
from infer.emulator.pipeline import SharedClock
from tests.infer.models import CLASSES, SHAPE, expected_logits, linear_model, prep_folder

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which relative paths are what ais_bench takes: pytest's own temporary path may hold other letters."""
    monkeypatch.chdir(tmp_path)
    make_folder("out")
    return tmp_path


def call(*more: str, model: str = "m.onnx") -> int:
    return main.main(["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", *more])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 11), batch=st.integers(1, 5), outfmt=st.sampled_from(tensors.OUTPUT_FORMATS))
def test_every_input_gives_its_own_outputs_whatever_the_batch(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, outfmt: str
) -> None:
    folder = tmp_path_factory.mktemp("twin")
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


def test_npy_outputs_keep_the_batch_axis(place: Path) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 2, outputs=2)
    assert call("--outfmt", "NPY") == 0
    assert np.load("out/run/img2_0.npy").shape == (1, CLASSES)
    assert np.load("out/run/img2_1.npy").shape == (1, *SHAPE)


def test_npy_inputs_give_what_bins_give(place: Path) -> None:
    images = prep_folder(Path("in"), 5, suffix="npy")
    linear_model(Path("m.onnx"), 2)
    assert call() == 0
    found = np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(5)])
    np.testing.assert_allclose(found, expected_logits(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_pixels_are_uint8(place: Path, suffix: str) -> None:
    """Five of a model for two, by their bytes: 48 an image."""
    pixels = prep_folder(Path("in"), 5, suffix, pixels=True)
    linear_model(Path("m.onnx"), 2, pixels=True)
    assert call() == 0
    found = np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(5)])
    expected = expected_logits(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_npy_of_float32_is_no_pixels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2, "npy")
    linear_model(Path("m.onnx"), 2, pixels=True)
    assert call() == 1
    error = "dtype (expected uint8, as the model's input, found float32)"
    assert f"in/img0.npy: {error}\n" in capsys.readouterr().err


def test_summary_and_screen_are_those_of_ais_bench(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_device_times_add_up_to_the_time_in_which_anything_was_computed(place: Path) -> None:
    prep_folder(Path("in"), 40)
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert sum(summary["npu_compute_time_list"]) / 1000 <= summary["host_seconds"]["total"]
    assert summary["host_seconds"]["infer"] == pytest.approx(sum(summary["npu_compute_time_list"]) / 1000)


def test_modes_of_what_it_writes(place: Path) -> None:
    prep_folder(Path("in"), 1)
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    assert stat.S_IMODE(os.stat("out/run").st_mode) == 0o750
    assert stat.S_IMODE(os.stat("out/run/img0_0.bin").st_mode) == 0o640


def test_name_is_cut_at_its_first_dot(place: Path) -> None:
    prep_folder(Path("in"), 1)
    os.rename("in/img0.bin", "in/img0.v1.bin")
    linear_model(Path("m.onnx"), 1)
    assert call() == 0
    assert os.listdir("out/run") == ["img0_0.bin"]


REFUSED = {
    "link": (
        lambda: os.symlink("img0.bin", "in/link.bin"),
        2,
        "in/link.bin: is a symbolic link, which ais_bench refuses; copy it or link it hard",
    ),
    "letters": (
        lambda: Path("in/potter's.bin").touch(0o640),
        2,
        "in/potter's.bin: path holds a character that ais_bench refuses (expected A-Za-z0-9_-/. only)",
    ),
    "writable": (
        lambda: os.chmod("in/manifest.json", 0o664),
        2,
        "in/manifest.json: group or world may write it, which ais_bench refuses; chmod go-w in/manifest.json",
    ),
    "stems": (
        lambda: os.link("in/img0.bin", "in/img0.v1.bin"),
        2,
        "in: inputs whose names agree up to the first dot share outputs (found img0)",
    ),
    "open output": (
        lambda: os.chmod("out", 0o755),
        2,
        "out: output folder is too open (expected at most 0750, found 0755); chmod 750 out",
    ),
    "no model": (lambda: os.unlink("m.onnx"), 2, "m.onnx: no such model; run make om"),
    "no input": (
        lambda: [os.unlink(f"in/{name}") for name in os.listdir("in")],
        2,
        "in: holds no .bin or .npy; run make preprocess",
    ),
    "no multiple": (
        lambda: Path("in/img0.bin").write_bytes(b"x" * 100),
        1,
        "arg0 tensorsize: 384 filesize: 100 not match; BATCH and INPUT as in make om",
    ),
    "short input": (
        lambda: os.truncate("in/img1.bin", 96),
        1,
        "in/img1.bin: size (expected 192 bytes, as the first input, found 96); "
        "remove it and manifest.json, then make preprocess",
    ),
    "truncated model": (lambda: os.truncate("m.onnx", 100), 1, "m.onnx: onnxruntime cannot load the model: "),
}


@pytest.mark.parametrize("error", REFUSED)
def test_refusals(place: Path, capsys: pytest.CaptureFixture[str], error: str) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 2)
    spoil, code, message = REFUSED[error]
    spoil()
    assert call() == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and message in told
    assert not Path("out/run_summary.json").exists()


def test_npy_of_another_dtype_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder("in")
    for i in range(2):
        tensors.write_output(Path(f"in/img{i}.npy"), np.zeros((1, *SHAPE), np.float16))
    linear_model(Path("m.onnx"), 1)
    assert call() == 1
    assert "in/img0.npy: dtype (expected float32, as the model's input, found float16)" in capsys.readouterr().err


def test_dynamic_batch_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    prep_folder(Path("in"), 1)
    linear_model(Path("m.onnx"), 2)
    model = onnx.load("m.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, "m.onnx")
    assert call() == 1
    assert (
        "input image has no fixed shape (found [-1, 3, 4, 4]); compile it for a batch: make om"
        in capsys.readouterr().err
    )


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
def test_bad_arguments_exit_2(place: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_without_inputs_one_batch_is_computed_again_and_again(place: Path, kind: str) -> None:
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


def test_loop_computes_each_batch_so_often(place: Path) -> None:
    images = prep_folder(Path("in"), 5)
    linear_model(Path("m.onnx"), 2)
    assert call("--loop", "3") == 0
    found = np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(5)])
    np.testing.assert_allclose(found, expected_logits(images), rtol=1e-5, atol=1e-5)
    assert json.loads(Path("out/run_summary.json").read_text())["NPU_compute_time"]["count"] == 3 * 3


def test_the_clock_shares_time_among_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request alone for 4 s, then two for 6 s: 4 + 6 / 2 and 6 / 2, which add up to the 10 s that passed."""
    moments = iter([100.0, 104.0, 110.0, 110.0])
    monkeypatch.setattr("infer.emulator.pipeline.time.perf_counter", lambda: next(moments))
    clock = SharedClock()
    first = clock.start()
    second = clock.start()
    assert (clock.stop() - first, clock.stop() - second) == (7.0, 3.0)


@pytest.mark.parametrize("device", ["1", "0,1"])
def test_the_twin_has_one_device(place: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--device", device, "--divide_input", "1") == 2
    assert capsys.readouterr().err == (
        f"infer.emulator: error: the twin of ais_bench has one device (expected --device 0, found {device}); DEVICE=0, "
        "or BACKEND=ascend for several\n"
    )


def test_paths_with_a_space_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(model="my model.onnx") == 2
    assert "my model.onnx: path holds a character that ais_bench refuses" in capsys.readouterr().err
