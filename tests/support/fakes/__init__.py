"""The fakes of the NPU tools, installed where the project looks for them: `atc`, `aoe`, `amct_onnx` and `msprobe` on
PATH, ais_bench in a python, Torch-AIE on PYTHONPATH."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ATC = FOLDER / "fake_atc.py"
AOE = FOLDER / "fake_aoe.py"
AMCT = FOLDER / "fake_amct.py"
MSPROBE = FOLDER / "fake_msprobe.py"
AIS_BENCH = FOLDER / "fake_ais_bench"
ACLRUNTIME = FOLDER / "fake_aclruntime"
TORCH_AIE = FOLDER / "fake_torch_aie"  # for PYTHONPATH


def program(path: Path, command: str) -> Path:
    """A shell script at `path` that runs `command`, followed by the arguments that the script gets."""
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def atc(folder: Path) -> Path:
    """`atc` in `folder`, which is to be on PATH."""
    return program(folder / "atc", f"{shlex.quote(sys.executable)} -E {shlex.quote(str(ATC))}")


def amct(folder: Path) -> Path:
    """`amct_onnx` in `folder`, which is to be on PATH."""
    return program(folder / "amct_onnx", f"{shlex.quote(sys.executable)} -E {shlex.quote(str(AMCT))}")


def msprobe(folder: Path) -> Path:
    """`msprobe` in `folder`, which is to be on PATH."""
    return program(folder / "msprobe", f"{shlex.quote(sys.executable)} -E {shlex.quote(str(MSPROBE))}")


def aoe(folder: Path) -> Path:
    """`aoe` in `folder`, which is to be on PATH; it stores its tuning results there."""
    python = f"env HOME={shlex.quote(str(folder))} {shlex.quote(sys.executable)} -E"
    return program(folder / "aoe", f"{python} {shlex.quote(str(AOE))}")


def ais_python(folder: Path, package: Path = AIS_BENCH) -> Path:
    """A python that has ais_bench, for AIS_PYTHON: the fake, or the one in the directory `package`."""
    path = os.pathsep.join(
        [str(package), str(ACLRUNTIME), str(AIS_BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return program(folder / "python_npu", f"env PYTHONPATH={shlex.quote(path)} {shlex.quote(sys.executable)}")
