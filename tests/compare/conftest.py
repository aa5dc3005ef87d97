"""Fixtures: the files of a small classifier from all stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from hrnet.config import config_sha256, load_config
from tests.compare.small_chain import CONFIG, SIDE, run_chain
from tests.support import onnx_models


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with small.yaml, m.onnx, and the products om/, in-<dtype>/, out/ and eval/ for float32 inputs in fp32
    and fp16, and for uint8 inputs in fp16."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("small.yaml").write_text(CONFIG)
        model = onnx_models.classifier(size=SIDE)
        config = config_sha256(load_config(Path("small.yaml")))
        onnx.helper.set_model_props(model, {"model": "small", "config_sha256": config, "weights_sha256": "ab" * 32})
        onnx.save(model, "m.onnx")
        for dtype, precision in (("float32", "fp32"), ("float32", "fp16"), ("uint8", "fp16")):
            run_chain(dtype, precision)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `built` as the working directory."""
    shutil.copytree(built, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"
