"""`infer.run --output_flip`: both passes of a pose model, with one loaded model or with two calls of ais_bench."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.files import locked
from hrnet.io.manifest import Manifest
from hrnet.io.runs import RunRecord
from hrnet.io.stamp import stamp_path
from infer import run as infer_run
from infer.emulator import main as emulator
from tests import fakes
from tests.infer.models import check_error, gear_folder, gear_model, linear_model, prep_folder

COUNT = 8
OUTPUTS = ["out/run", "out-flip/run"]
FILES = sorted(f"img{i}_{k}.npy" for i in range(COUNT) for k in range(2))
ASCEND = ["--backend", "ascend", "--ais_python", "./python_npu"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """m.onnx and m.om with gears, inputs in `in`, flipped ones in `in-flip`, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT))
    gear_model(Path("m.onnx"))
    gear_model(Path("m.om"))
    fakes.ais_python(tmp_path)
    images = gear_folder(Path("in"), COUNT)
    Path("in-flip").mkdir(0o750)
    for i, image in enumerate(images):
        np.save(f"in-flip/img{i}.npy", np.ascontiguousarray(image[..., ::-1]))
    Manifest.read("in/manifest.json").flip().write("in-flip/manifest.json")
    return images


def call(*more: str, model: str = "m.onnx") -> int:
    outputs = ["--output", OUTPUTS[0], "--output_flip", OUTPUTS[1]]
    return infer_run.main(["--model", model, "--inputs", "in", *outputs, *more])


def check_files(images: list[np.ndarray]) -> None:
    for folder, step in zip(OUTPUTS, (1, -1)):
        assert sorted(os.listdir(folder)) == FILES
        for i, image in enumerate(images):
            means, twice = (np.load(f"{folder}/img{i}_{k}.npy") for k in range(2))
            np.testing.assert_array_equal(twice, 2 * image[..., ::step])
            np.testing.assert_allclose(means, image.mean(axis=(2, 3), keepdims=True), atol=1e-6)


def records() -> list[RunRecord]:
    return [RunRecord.read(f"{folder}_run.json") for folder in OUTPUTS]


def summaries() -> list[dict[str, Any]]:
    return [json.loads(Path(f"{folder}_summary.json").read_text()) for folder in OUTPUTS]


def test_emulator_loads_the_model_once(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    check_files(images)
    assert capfd.readouterr().out.count(" -m infer.emulator ") == 1
    plain, flipped = records()
    assert (plain.flipped, flipped.flipped) == (False, True)
    assert plain.manifest_sha256 == flipped.manifest_sha256 and plain.files == flipped.files
    for record, summary in zip((plain, flipped), summaries()):
        assert record.seconds["total"] == summary["host_seconds"]["total"]
        assert record.images_per_second == pytest.approx(COUNT / summary["host_seconds"]["total"])
        assert record.device == {key: summary[key] for key in ("NPU_compute_time", "throughput")}
        assert summary["NPU_compute_time"]["count"] == COUNT
    assert len({summary["pid"] for summary in summaries()}) == 1


def test_summaries_are_those_of_two_calls(images: list[np.ndarray]) -> None:
    """The second pass writes what a call of its own with --flip writes."""
    assert call() == 0
    together = summaries()
    own = ["--model", "m.onnx", "--input", "in", "--outfmt", "NPY", "--batchsize", "1", "--device", "0"]
    for folder, more in zip(OUTPUTS, ([], ["--flip", "1"])):
        where = ["--output", os.path.dirname(folder), "--output_dirname", "run", "--auto_set_dymdims_mode", "1"]
        assert emulator.main([*own, *where, "--runtime", "onnxruntime", *more]) == 0
    for both, alone in zip(together, summaries()):
        assert both["args"] == alone["args"] and list(both["args"]) == list(alone["args"])
        assert both["filesinfo"] == alone["filesinfo"] and list(both) == list(alone)


def test_passes_that_are_up_to_date_are_touched(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    before = [Path(f"{folder}_run.json").read_bytes() for folder in OUTPUTS]
    capfd.readouterr()
    assert call() == 0
    assert "infer.emulator" not in capfd.readouterr().out
    assert [Path(f"{folder}_run.json").read_bytes() for folder in OUTPUTS] == before
    for i, other in ((0, 1), (1, 0)):
        os.unlink(f"{OUTPUTS[i]}_run.json")
        assert call() == 0
        out = capfd.readouterr().out
        assert f"{OUTPUTS[other]} is up to date" in out and f"inferred {COUNT} images into {OUTPUTS[i]} " in out
        assert (" --flip 1" in out) == (i == 1)
        check_files(images)


def remove_records(folder: str, *images: int) -> None:
    """Make a pass an interrupted one that has not finished these images."""
    for path in (f"{folder}_run.json", stamp_path(folder), f"{folder}_summary.json"):
        os.unlink(path)
    for i in images:
        os.unlink(f"{folder}/img{i}_0.npy")


@pytest.mark.parametrize("left", [{0: [2, 5]}, {1: [0]}, {0: [1], 1: [3, 4, 7]}])
def test_interrupted_passes_resume(images: list[np.ndarray], left: dict[int, list[int]]) -> None:
    assert call() == 0
    for number, missing in left.items():
        remove_records(OUTPUTS[number], *missing)
    times = {(f, name): os.stat(f"{f}/{name}").st_mtime_ns for f in OUTPUTS for name in os.listdir(f)}
    assert call() == 0
    check_files(images)
    for number, record in enumerate(records()):
        redone = left.get(number, [])
        assert record.kept == (COUNT - len(redone) if redone else 0)
        for i in set(range(COUNT)) - set(redone):
            path = (OUTPUTS[number], f"img{i}_0.npy")
            assert os.stat("/".join(path)).st_mtime_ns == times[path]
    assert not list(Path().glob("out*/run_chunk"))


KILL = f"""
import os
from infer.emulator import pipeline
write, written = pipeline.Pipeline._write, []
def killed(self, *work):
    if len(written) == {COUNT + 3}:
        os.kill(os.getpid(), 9)
    write(self, *work)
    written.append(1)
pipeline.Pipeline._write = killed
"""


def test_first_pass_is_recorded_before_the_second_ends(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A kill in the second pass does not lose the first one's figures."""
    Path("patch").mkdir()
    Path("patch/sitecustomize.py").write_text(KILL)
    monkeypatch.setenv("PYTHONPATH", f"patch:{fakes.ROOT}")
    assert call() == 1
    check_error(capfd.readouterr().err, "infer.run", "-m infer.emulator", "exit -9")
    assert RunRecord.read("out/run_run.json").kept == 0 and not Path("out-flip/run_run.json").exists()
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT))
    assert call() == 0
    assert "out/run is up to date" in capfd.readouterr().out
    assert records()[0].kept == 0 and 1 <= records()[1].kept <= 4
    check_files(images)


@pytest.mark.parametrize("device", ["0", "0,1"])
def test_ais_bench_is_run_twice(images: list[np.ndarray], capfd: pytest.CaptureFixture[str], device: str) -> None:
    flags = ["--inputs_flip", "in-flip", "--device", device, *ASCEND]
    assert call(*flags, model="m.om") == 0
    check_files(images)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("./python_npu -m ais_bench ")]
    assert [line.split(" --input ")[1].split()[:5] for line in lines] == [
        ["in", "--output", "out", "--output_dirname", "run"],
        ["in-flip", "--output", "out-flip", "--output_dirname", "run"],
    ]
    assert [record.flipped for record in records()] == [False, True]
    assert all(record.tool == "ais_bench" for record in records())
    assert call(*flags, model="m.om") == 0
    assert "ais_bench " not in capfd.readouterr().out


def test_another_device_runs_again(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    for device in ("0", "1"):
        assert call("--inputs_flip", "in-flip", "--device", device, *ASCEND, model="m.om") == 0
        assert capfd.readouterr().out.count(f" --device {device} ") == 2


def test_free_disk_is_checked_for_both_passes(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    needs: list[int] = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: needs.append(need))
    assert call() == 0
    assert max(needs) == 2 * sum(image.nbytes + 3 * 4 for image in images)


def test_either_lock_excludes_another_run(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    for folder in OUTPUTS:
        os.makedirs(os.path.dirname(folder), 0o750, exist_ok=True)
        with locked(f"{folder}_lock"):
            assert call() == 2
        check_error(capfd.readouterr().err, "infer.run", f"{folder}_lock")
        assert not Path(f"{folder}_settings.json").exists()


def test_errors(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*ASCEND, model="m.om") == 2
    check_error(capfd.readouterr().err, "infer.run", "--inputs_flip")
    gear_folder(Path("in"), COUNT - 1)
    os.unlink(f"in/img{COUNT - 1}.npy")
    assert call("--inputs_flip", "in-flip") == 2
    check_error(capfd.readouterr().err, "infer.run", "in-flip", "run make preprocess")
    alone = ["--model", "m.onnx", "--inputs", "in-flip", "--output", "out/run"]
    assert infer_run.main([*alone, "--output_flip", "out-flip/run"]) == 2
    check_error(capfd.readouterr().err, "infer.run", "in-flip", "--output_flip")
    assert infer_run.main([*alone, "--inputs_flip", "in-flip"]) == 2
    check_error(capfd.readouterr().err, "infer.run", "--output_flip")
    prep_folder(Path("bins"), 2)
    linear_model(Path("static.onnx"), 1)
    static = ["--model", "static.onnx", "--inputs", "bins", "--output", "out/s", "--output_flip", "out-flip/s"]
    assert infer_run.main(static) == 1
    assert not Path("out/s_run.json").exists()
