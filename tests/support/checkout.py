"""A copy of the sources in which make runs."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

from tests.support import ROOT

FOLDERS = (
    "amct",
    "atc",
    "compare",
    "configs",
    "data",
    "hrnet",
    "infer",
    "keep_float",
    "make",
    "postprocess",
    "preprocess",
    "pth2onnx",
    "report",
    "serve",
    "train",
    "weights",
)
STAGES = (
    "pth2onnx.classification",
    "atc.convert",
    "preprocess.classification",
    "infer.run",
    "postprocess.classification",
)

T = TypeVar("T", bound="Checkout")


class Checkout:
    """A copy of the sources, in which make runs with this interpreter."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ignore = shutil.ignore_patterns("*.pyc.*", "digits", "imagenet", "coco", "people", "demo_people")
        for folder in FOLDERS:  # with __pycache__, which saves compiling; but not what another process is writing there
            shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
        shutil.copy(ROOT / "Makefile", root)

    def copy(self: T, root: Path) -> T:
        """This checkout with all products, in the empty directory `root`; modification times are kept."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        other = copy.copy(self)
        other.root = root
        return other

    def make(self, *arguments: str, model: str = "demo_digits", **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return subprocess.run(
            ["make", *arguments, f"MODEL={model}", f"PYTHON={sys.executable}"],
            cwd=self.root,
            env={**clean, **environment},
            capture_output=True,
            text=True,
        )

    def stages(self, *arguments: str) -> list[str]:
        """Which stages a call runs, in order."""
        done = self.make(*arguments)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{sys.executable} -m ")]
        return [stage for line in lines for stage in STAGES if f" -m {stage} " in line]
