"""`infer.run --output_flip`: both passes of a pose model, with one loaded model or with two calls of ais_bench."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.files import locked
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from infer.emulator import main as emulator
from tests.support import ROOT
from tests.support.errors import check_error
from tests.support.gear_model import COUNT, check_gear_outputs, flip_folder, gear_folder
from tests.support.linear_model import linear_model, prep_folder, remove_records

OUTPUTS = ["out/run", "out-flip/run"]
ASCEND = ["--backend", "ascend", "--ais_python", "./python_npu"]


in_this_process = pytest.mark.usefixtures("emulators_in_process")


@pytest.fixture
def images(gear_images: list[np.ndarray]) -> list[np.ndarray]:
    """With flipped inputs in `in-flip`."""
    flip_folder(Path("in"), Path("in-flip"))
    return gear_images


def call(*more: str, model: str = "m.onnx") -> int:
    outputs = ["--output", OUTPUTS[0], "--output_flip", OUTPUTS[1]]
    return infer_run.main(["--model", model, "--inputs", "in", *outputs, *more])


def check_files(images: list[np.ndarray]) -> None:
    check_gear_outputs(images, OUTPUTS[0])
    check_gear_outputs([image[..., ::-1] for image in images], OUTPUTS[1])


def records() -> list[RunRecord]:
    return [RunRecord.read(f"{folder}_run.json") for folder in OUTPUTS]


def summaries() -> list[dict[str, Any]]:
    return [json.loads(Path(f"{folder}_summary.json").read_text()) for folder in OUTPUTS]


def test_the_emulator_loads_the_model_once(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
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


@in_this_process
def test_summaries_are_those_of_two_calls(images: list[np.ndarray]) -> None:
    """One call for both passes writes the same summaries as two separate calls, the second with --flip."""
    assert call() == 0
    together = summaries()
    own = ["--model", "m.onnx", "--input", "in", "--outfmt", "NPY", "--batchsize", "1", "--device", "0"]
    for folder, more in zip(OUTPUTS, ([], ["--flip", "1"])):
        where = ["--output", os.path.dirname(folder), "--output_dirname", "run", "--auto_set_dymdims_mode", "1"]
        where += ["--warmup_count", "0"]
        assert emulator.main([*own, *where, "--runtime", "onnxruntime", *more]) == 0
    for both, alone in zip(together, summaries()):
        assert both["args"] == alone["args"] and list(both["args"]) == list(alone["args"])
        assert both["filesinfo"] == alone["filesinfo"] and list(both) == list(alone)


@in_this_process
def test_up_to_date_passes_are_only_touched(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize("missing_outputs", [{0: [2, 5]}, {1: [0]}, {0: [1], 1: [3, 4, 7]}])
@in_this_process
def test_interrupted_passes_resume(images: list[np.ndarray], missing_outputs: dict[int, list[int]]) -> None:
    assert call() == 0
    for number, missing in missing_outputs.items():
        remove_records(OUTPUTS[number])
        os.unlink(f"{OUTPUTS[number]}_summary.json")
        for i in missing:
            os.unlink(f"{OUTPUTS[number]}/img{i}_0.npy")
    times = {(f, name): os.stat(f"{f}/{name}").st_mtime_ns for f in OUTPUTS for name in os.listdir(f)}
    assert call() == 0
    check_files(images)
    for number, record in enumerate(records()):
        redone = missing_outputs.get(number, [])
        assert record.kept == (COUNT - len(redone) if redone else 0)
        for i in set(range(COUNT)) - set(redone):
            path = (OUTPUTS[number], f"img{i}_0.npy")
            assert os.stat("/".join(path)).st_mtime_ns == times[path]
    assert not list(Path().glob("out*/run_chunk"))


KILL = f"""
import os
from infer.emulator import pipeline
write, written = pipeline.Pipeline.write, []
def killed(self, *work):
    if len(written) >= {COUNT + 3}:
        os.kill(os.getpid(), 9)
    write(self, *work)
    written.append(1)
pipeline.Pipeline.write = killed
"""


def test_a_kill_in_the_second_pass_keeps_the_outputs_of_the_first(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("patch").mkdir()
    Path("patch/sitecustomize.py").write_text(KILL)
    monkeypatch.setenv("PYTHONPATH", f"patch:{ROOT}")
    assert call() == 1
    check_error(capfd.readouterr().err, "infer.run", "infer.emulator failed", "exit -9")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert call() == 0
    first, second = (record.kept for record in records())
    # A rerun computes at least one input of each pass, since without inputs the tool writes no summary. Two more
    # outputs of the first pass may not have been written at the kill.
    assert COUNT - 3 <= first <= COUNT - 1 and 1 <= second < COUNT
    check_files(images)


def test_ais_bench_is_run_twice(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--inputs_flip", "in-flip", *ASCEND]
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


def test_both_passes_run_again_on_another_device(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    for device in ("0", "1"):
        assert call("--inputs_flip", "in-flip", "--device", device, *ASCEND, model="m.om") == 0
        assert capfd.readouterr().out.count(f" --device {device} ") == 2


@in_this_process
def test_free_disk_is_checked_for_both_passes(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    needs: list[int] = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: needs.append(need))
    assert call() == 0
    assert max(needs) == 2 * sum(image.nbytes + 3 * 4 for image in images)


def test_a_lock_of_either_pass_excludes_another_run(
    images: list[np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in OUTPUTS:
        os.makedirs(os.path.dirname(folder), 0o750, exist_ok=True)
        with locked(f"{folder}_lock"):
            assert call() == 2
        check_error(capfd.readouterr().err, "infer.run", f"{folder}_lock")
        assert not Path(f"{folder}_settings.json").exists()


def test_user_errors_are_reported_in_one_line(images: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
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
    assert infer_run.main(static) == 2
    assert not Path("out/s_run.json").exists()
