"""Fixtures of several folders, and the settings of hypothesis."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # deadlines would fail on a busy machine
settings.load_profile("untimed")

os.environ.pop("MAKELEVEL", None)  # of `make test`: only tests of make call the stages as make does


@pytest.fixture(scope="session")
def torchscript_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.yaml, tiny.pth and model.ts; tiny_pose.yaml, tiny_pose.pth and pose.ts."""
    from pth2onnx import torchscript
    from tests.support import tiny

    folder = tmp_path_factory.mktemp("torchscript")
    for cfg, write, output in (
        ("tiny", tiny.write_weights, "model.ts"),
        ("tiny_pose", tiny.write_pose_weights, "pose.ts"),
    ):
        files = ["--weights", str(write(folder)), "--output", str(folder / output)]
        assert torchscript.main(["--cfg", str(folder / f"{cfg}.yaml"), *files]) == 0
    return folder
