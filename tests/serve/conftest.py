"""Fixtures: the files of a small classifier from all stages, and a server for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.chain import Running, command, serving, write_chain


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_chain(folder)
    return folder


@pytest.fixture(scope="session")
def server(chain: Path) -> Iterator[Running]:
    with serving(chain, command()) as running:
        yield running
