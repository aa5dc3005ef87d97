"""Run atc, its emulator or aoe: show its log, turn an error code into a hint, and find the file that it wrote.

Source of the codes: CANN's error table and ATC's documentation; the hints are ours.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from atc import atc_rules
from atc.shapes import LEAST_GEARS, MOST_GEARS
from hrnet.cli import UserError, WorkFailed

EMULATOR = ["python", "-m", "atc.emulator"]
TOOLS = {"ascend": ["atc"], "onnxruntime": EMULATOR, "openvino": EMULATOR}
AOE = ["aoe"]
SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
ROOT = Path(__file__).resolve().parent.parent  # for `-m atc.emulator`
LAST_LINES = 200  # searched for an error code: with --log=debug there are a million

_SHAPE = "names and sizes must be those of the ONNX file's input: python -m atc.convert reads them from it"
_GEARS = (
    f"the gears do not fit the -1s of --input_shape: {LEAST_GEARS} to {MOST_GEARS} different gears, a value for each -1"
)
HINTS = {
    "E10001": "this CANN does not accept the value: compare SOC with npu-smi info, other values with atc --help",
    "E10003": _GEARS,
    "E10007": "give --framework=5, which is ONNX",
    "E10009": "give one of --dynamic_batch_size, --dynamic_image_size, --dynamic_dims",
    "E10016": _SHAPE,
    "E10018": "with --dynamic_batch_size only the batch may be -1",
    "E10019": "with --dynamic_image_size only height and width may be -1",
    "E10020": "--dynamic_image_size needs two values for each gear: h,w;h,w",
    "E10022": "--output is a file name without its ending, not a directory",
    "E10031": "with a gear flag some axis of --input_shape must be -1",
    **dict.fromkeys(("E10035", "E10036", "E10037", "E10038", "E10039"), _GEARS),
    "E10041": "the ONNX file is damaged or not an ONNX file: rm it and run make onnx",
    "E10052": "the AIPP file does not fit the model: rm it and run make om",
    "E10054": "a required parameter is empty: --model, --output and --soc_version, each in quotation marks",
    "E19010": "this CANN lacks this operator at the file's opset: export at opset 11 (make onnx)",
    "EZ3003": "this chip lacks this operator: compare SOC with npu-smi info; is this CANN made for the chip?",
}


def find_hint(lines: Iterable[str]) -> Optional[str]:
    """`E10016: what to do` for the first error code among ATC's last lines that has a hint."""
    codes = (code for line in lines for code in re.findall(r"\bE[0-9A-Z][0-9]{4}\b", line))
    return next((f"{code}: {HINTS[code]}" for code in codes if code in HINTS), None)


def run_tool(tool: Sequence[str], arguments: Sequence[str], folder: Path, lock: int) -> None:
    """Run the tool in `folder` and print its log line by line; it inherits the descriptor `lock`. Raises WorkFailed if
    it fails, UserError if it is not on PATH."""
    name, environment = tool[-1], dict(os.environ)
    if tool[0] != "python":
        if shutil.which(name) is None:
            instead = "--tune none" if tool == AOE else "--backend onnxruntime"
            raise UserError(f"{name} is not on PATH", hint=f"{SET_ENV}, or use {instead}")
    else:
        tool = [sys.executable, *tool[1:]]
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment["PYTHONUNBUFFERED"] = "1"
        environment["TMPDIR"] = str(folder)  # files of a killed tool are removed with the folder
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
    if running.returncode:
        failure = last.index(atc_rules.FAILURE) if atc_rules.FAILURE in last else 0
        hint = find_hint(list(last)[failure:])
        raise WorkFailed(f"{name} failed, see above", found=f"exit code {running.returncode}", hint=hint)


def find_result(tool: str, folder: Path, name: str, ending: str) -> Path:
    """The file that the tool wrote in `folder` for --output=NAME; newer versions of atc call it NAME_linux_x86_64.om.
    Raises WorkFailed for none, or for several."""
    if (folder / f"{name}{ending}").is_file():
        return folder / f"{name}{ending}"
    found = sorted(folder.glob(f"{name}*{ending}"))
    if len(found) != 1:
        what = f"{tool} succeeded but wrote {'several' if found else 'no'} {name}*{ending}"
        raise WorkFailed(what, found=", ".join(path.name for path in found) or None)
    return found[0]
