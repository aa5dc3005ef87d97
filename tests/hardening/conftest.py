"""Fixtures: both pipelines, run once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.hardening import pose_stages, stages
from tests.hardening.harness import Stage


def run_all(chain: tuple[Stage, ...], folder: Path) -> Path:
    for stage in chain:
        stage.finish(folder)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which all stages of classification ran."""
    if find_spec("sklearn") is None:  # it is not imported, which takes a second
        pytest.skip("needs scikit-learn")
    return run_all((*stages.CHAIN, *stages.INT8), stages.sources(tmp_path_factory.mktemp("built")))


@pytest.fixture(scope="session")
def built_pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which all stages of pose ran."""
    return run_all((*pose_stages.CHAIN, *pose_stages.INT8), pose_stages.sources(tmp_path_factory.mktemp("built_pose")))
