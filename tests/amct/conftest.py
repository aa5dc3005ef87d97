"""Fixtures: a current directory with a model and calibration inputs, and the fake tools on PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.amct.calls import batches, inputs
from tests.support import fakes
from tests.support.onnx_models import classifier, saved


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: model.onnx, inputs/ of 8 images and batches/ with 2 batches of 4."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    inputs(tmp_path / "inputs", 8)
    batches(tmp_path / "batches")
    return tmp_path


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The fakes of amct_onnx and atc on PATH."""
    folder = tmp_path_factory.mktemp("bin")
    fakes.amct(folder)
    fakes.atc(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return monkeypatch
