"""Fixtures that several test modules use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
