"""benchmarks/memory.py: the memory of a stage, and the table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory
from hrnet.cli import WorkFailed
from tests.support import linear_model
from tests.support.image_sets import listed

HOLD = "import time; held = b'x' * (100 << 20); time.sleep(0.5)"
WITH_CHILD = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {HOLD!r}])\n{HOLD}\nchild.wait()"
CONFIG = f"MODEL: {{NUM_CLASSES: {linear_model.CLASSES}, IMAGE_SIZE: [32, 32]}}\nINPUT: {{RESIZE: 40}}\n"


def test_memory_of_child_processes_is_included() -> None:
    alone, two = memory.peak_of(["-c", HOLD]), memory.peak_of(["-c", WITH_CHILD])
    assert 100 << 20 < alone < 180 << 20
    assert two > alone + (100 << 20)


def test_a_failing_stage_is_reported() -> None:
    with pytest.raises(WorkFailed) as error:
        memory.peak_of(["-c", "raise SystemExit(3)"])
    assert error.value.found == "exit 3" and "-c raise SystemExit(3)" in str(error.value.where)


def test_memory_is_measured_at_two_numbers_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    listed(tmp_path / "images", {f"photo{i}.JPEG": i for i in range(3)})
    monkeypatch.setattr(linear_model, "SHAPE", [3, 32, 32])
    monkeypatch.setattr(linear_model, "WEIGHTS", np.ones((3 * 32 * 32, linear_model.CLASSES), np.float32))
    linear_model.linear_model(tmp_path / "m.onnx", 2)
    places = [f"--{name}={tmp_path / file}" for name, file in (("dataset", "images"), ("cfg", "small.yaml"))]
    shutil.copy(tmp_path / "m.onnx", tmp_path / "source.onnx")
    models = [f"--model={tmp_path / 'm.onnx'}", f"--onnx={tmp_path / 'source.onnx'}"]
    assert memory.main([*places, *models, "--copies", "1", "2", "--calib", "2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["peak", "memory,", "MiB", "3", "images", "6", "images"]
    assert [line[0] for line in lines[1:]] == ["preprocess", "infer", "eval", "calibration", "quantize"]
    assert all(10 < int(mebibytes) < 2000 for line in lines[1:] for mebibytes in line[1:])
