"""Simulate a machine that has only an unpacked bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from tests.support import fakes


class Board:
    """A directory with only an unpacked bundle, and a python without the packages that a board does not have."""

    def __init__(self, root: Path, archive: Path, absent: tuple[str, ...], path: Optional[Path] = None) -> None:
        stubs = root / "stubs"
        stubs.mkdir()
        for name in absent:
            (stubs / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} on the board', name='{name}')\n")
        subprocess.run(["tar", "-xf", archive], cwd=root, check=True)
        (self.root,) = (entry for entry in root.iterdir() if entry != stubs)
        python = fakes.program(root / "python3", f"env PYTHONPATH={stubs} {sys.executable}").parent
        self.path = os.pathsep.join([str(each) for each in (python, path) if each] + [os.environ["PATH"]])

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "PYTHONPATH"}
        return {**clean, "PATH": self.path}

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = ["make", *arguments]
        return subprocess.run(words, cwd=self.root, env=self.environment, capture_output=True, text=True)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start make, with its output and errors in a pipe."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(["make", *arguments], cwd=self.root, env=self.environment, text=True, **streams)

    def metrics(self) -> dict[str, Any]:
        (path,) = self.root.glob("build/demo_digits/eval/*/*.json")
        content: dict[str, Any] = json.loads(path.read_text())
        return content
