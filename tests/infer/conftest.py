"""Fixtures that several test modules use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from infer import run_ais_bench
from infer.emulator import main as emulator
from tests.support import ROOT, fakes
from tests.support.gear_model import COUNT, gear_folder, gear_model


@pytest.fixture
def gear_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A directory with m.onnx and m.om with gears, COUNT inputs in `in`, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    gear_model(Path("m.onnx"))
    gear_model(Path("m.om"))
    fakes.ais_python(tmp_path)
    return gear_folder(Path("in"), COUNT)


@pytest.fixture
def emulator_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages call the emulator in this process, for tests that do not depend on its process."""

    def start(words: list[str], **options: Any) -> Any:
        if words[:3] != [sys.executable, "-m", "infer.emulator"]:
            return subprocess.Popen(words, **options)
        code = emulator.main(words[3:])
        return SimpleNamespace(wait=lambda: code, terminate=lambda: None)

    monkeypatch.setattr(run_ais_bench, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))
