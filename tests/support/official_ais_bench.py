"""The Python part of real ais_bench versions, installed in a python with the fake of aclruntime.

None of that code is part of this repository. AIS_BENCH_GIT names the git directory of a clone that has the history of
https://gitee.com/ascend/tools, such as https://github.com/Yanguan619/aclruntime; without it `needs_clone` skips.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import fakes

GIT = os.environ.get("AIS_BENCH_GIT", "")
OFFICIAL = "ais-bench_workload/tool/ais_bench/ais_bench"
STATES = {  # commit: its date, the first day of this state of the package
    "b811625b": "2024-02-01",
    "9cbe9bc9": "2024-02-19",
    "d333ed0f": "2024-03-18",
    "ac94fb68": "2024-06-13",
    "738ccdff": "2024-07-24",
    "da11031f": "2024-08-02",
    "c7215bd7": "2024-09-29",
    "4be9fed3": "2024-12-30",
    "576784d4": "2025-01-17",
    "1ff4acca": "2025-12-10",
    "7d48a93e": "2025-12-18",
}
needs_clone = pytest.mark.skipif(not GIT, reason="AIS_BENCH_GIT: no clone with the history of ais_bench was given")


def package(commit: str, path: str, folder: Path) -> Path:
    """The package of a commit, in a directory for PYTHONPATH."""
    command = ["git", f"--git-dir={GIT}", "archive", commit, path]
    packed = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return (folder / path).parent


def install(commit: str, folder: Path, pkg_resources: bool = True) -> Path:
    """A python in `folder` that has ais_bench of a commit and aclruntime 0.0.2. `pkg_resources`: whether pkg_resources
    can be imported."""
    found = package(commit, OFFICIAL, folder / "clone")
    text = "from types import SimpleNamespace\nget_distribution = lambda name: SimpleNamespace(version='0.0.2')\n"
    (found / "pkg_resources.py").write_text(text if pkg_resources else "raise ImportError('removed')\n")
    return fakes.ais_python(folder, found)
