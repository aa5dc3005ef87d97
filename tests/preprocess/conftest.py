"""The config of the small data sets, and an output directory that does not exist yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.image_sets import write_config


@pytest.fixture
def cfg(tmp_path: Path) -> str:
    return write_config(tmp_path)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "prep"
