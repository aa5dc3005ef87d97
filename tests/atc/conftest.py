"""The current directory of the tests of atc.convert, and the fakes on PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.atc.calls import on_path
from tests.support import ROOT
from tests.support.onnx_models import classifier, saved


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with model.onnx."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    return tmp_path


@pytest.fixture
def atc(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The fake atc on PATH."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return on_path(tmp_path_factory, monkeypatch, "atc")


@pytest.fixture
def aoe(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The fake aoe on PATH, without atc."""
    return on_path(tmp_path_factory, monkeypatch, "aoe")


@pytest.fixture
def cfg(here: Path) -> str:
    """A config with images of 32 pixels, and a model for them."""
    saved(here, classifier(size=32))
    (here / "m.yaml").write_text(
        "MODEL: {IMAGE_SIZE: [32, 32], NUM_CLASSES: 10}\nINPUT: {RESIZE: 32, MEAN: [0.5, 0, 1]}\n"
    )
    return "m.yaml"
