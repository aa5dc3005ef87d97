"""Run a command of CANN (atc, aoe, amct_onnx), or this project's emulator of it, in a temporary directory."""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from hrnet import cann
from hrnet.cli import UserError

ROOT = Path(__file__).resolve().parent.parent  # on PYTHONPATH for `-m atc.emulator`
LAST_LINES = 200  # lines to search for an error code; --log=debug prints about a million


def find_program(name: str) -> Optional[str]:
    """The path of a CANN tool on PATH; virtual environments of this project are not searched."""
    return shutil.which(name, path=outer_path())


def outer_path() -> str:
    """PATH without virtual environments of this project: atc uses the `python3` on PATH and imports packages that
    `.venv` does not have."""
    own = {os.path.realpath(folder / "bin") for folder in (Path(sys.prefix), ROOT / ".venv")}
    if sys.prefix == sys.base_prefix:
        own.discard(os.path.realpath(Path(sys.prefix, "bin")))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if os.path.realpath(folder) not in own)


def run(tool: Sequence[str], arguments: Sequence[str], folder: Path, lock: int, instead: str) -> tuple[int, list[str]]:
    """Run the tool in `folder` and print its log line by line. The tool inherits the file descriptor `lock`. Returns
    its exit code and its last lines. Raises UserError if it is not on PATH; `instead`: what to use then."""
    environment = dict(os.environ)
    if tool[0] != "python":
        program = find_program(tool[-1])
        if program is None:
            raise UserError(f"{tool[-1]} is not on PATH", hint=f"{cann.source_set_env()}, or use {instead}")
        tool = [program]
        environment["PATH"] = outer_path()
        environment.pop("VIRTUAL_ENV", None)
    else:
        tool = [sys.executable, *tool[1:]]
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment["PYTHONUNBUFFERED"] = "1"
        environment["TMPDIR"] = str(folder)  # so that the files of a killed tool are removed too
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        [*tool, *arguments],
        cwd=folder,
        env=environment,
        pass_fds=[lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            last.append(line.rstrip("\n"))
    return running.returncode, list(last)
