"""The seam to atc, its twin and aoe: the command runs with its log on our screen, its errors become a line of advice,
and what it left is found.

Source of the codes: CANN's error table and its documentation of ATC; the advice is ours.
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

from atc import atc_rules
from hrnet.cli import UserError, WorkFailed

ENDINGS = {"ascend": ".om", "onnxruntime": ".onnx"}
TOOLS = {"ascend": ["atc"], "onnxruntime": ["python", "-m", "atc.emulator"]}
AOE = ["aoe"]
SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
ROOT = Path(__file__).resolve().parent.parent  # where `-m atc.emulator` is found
LAST_LINES = 200  # in which an error code is looked for: with --log=debug there are a million

_SHAPE = "the input's names and sizes are those of the ONNX file: python -m atc.convert spells them from it"
_GEARS = "the gears do not fit the -1s of --input_shape: 2 to 100 different gears, a value for each -1"
HINTS = {
    "E10001": "this CANN does not take the value: hold SOC against npu-smi info, the rest against atc --help",
    "E10003": _GEARS,
    "E10007": "give --framework=5, which is ONNX",
    "E10009": "give one of --dynamic_batch_size, --dynamic_image_size, --dynamic_dims",
    "E10016": _SHAPE,
    "E10018": "with --dynamic_batch_size only the batch may be -1",
    "E10019": "with --dynamic_image_size only height and width may be -1",
    "E10020": "--dynamic_image_size takes two values a gear: h,w;h,w",
    "E10022": "--output is a file's name without its ending, not a folder",
    "E10031": "with a gear flag some axis of --input_shape must be -1",
    **dict.fromkeys(("E10035", "E10036", "E10037", "E10038", "E10039"), _GEARS),
    "E10041": "the ONNX file is cut or not one: rm it and run make onnx",
    "E10052": "the AIPP file does not fit the model: rm it and run make om",
    "E10054": "a required parameter is empty: --model, --output and --soc_version, each in quotation marks",
    "E19010": "this CANN has no such operator at the file's opset: export at opset 11 (make onnx)",
    "EZ3003": "this chip has no such operator: is SOC the chip of npu-smi info, and this CANN made for it?",
}


def hint(lines: Iterable[str]) -> str:
    """`; E10016: what to do` for the first error code among ATC's last words that has advice; else nothing."""
    for line in lines:
        for code in re.findall(r"\bE[0-9A-Z][0-9]{4}\b", line):
            if code in HINTS:
                return f"; {code}: {HINTS[code]}"
    return ""


def run_tool(tool: Sequence[str], arguments: Sequence[str], folder: Path, lock: int) -> None:
    """Run the tool in `folder`, each line of its log on our screen as it comes; it inherits the descriptor `lock`.
    Raises WorkFailed where it fails, UserError where it is not on PATH."""
    name, environment = tool[-1], dict(os.environ)
    if tool[0] != "python":
        if shutil.which(name) is None:
            instead = "--tune none" if tool == AOE else "--backend onnxruntime"
            raise UserError(f"{name} is not on PATH", hint=f"{SET_ENV}, or use {instead}")
    else:
        tool = [sys.executable, *tool[1:]]
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment["PYTHONUNBUFFERED"] = "1"
        environment["TMPDIR"] = str(folder)  # what it leaves when it is killed goes with the folder
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
        advice = hint(list(last)[failure:])
        raise WorkFailed(f"{name} exited with {running.returncode}, see above{advice}")


def find_result(folder: Path, name: str, ending: str) -> Path:
    """What the tool left under `folder` for --output=NAME. Raises WorkFailed for none, or for more than one."""
    if (folder / f"{name}{ending}").is_file():
        return folder / f"{name}{ending}"
    found = sorted(folder.glob(f"{name}*{ending}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WorkFailed(f"the tool ended well, but of {name}*{ending} it left {names}")
    return found[0]
