"""What the tests of this folder begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hardening import stages


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole chain ran."""
    pytest.importorskip("sklearn")
    folder = stages.sources(tmp_path_factory.mktemp("built"))
    for stage in stages.CHAIN:
        code, told = stage.run(folder)
        assert code == 0, told
    return folder
