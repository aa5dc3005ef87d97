"""Run atc, the emulator of atc, or aoe: print its log, give a hint for its error code, and find the file that it wrote.

Source of the codes: CANN's error table and ATC's documentation. The hints are our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from atc import atc_rules
from atc.shapes import LEAST_GEARS, MOST_GEARS, MOST_GEARS_950
from hrnet import cann, cann_tool
from hrnet.cli import WorkFailed

EMULATOR = ["python", "-m", "atc.emulator"]
TOOLS = {"ascend": ["atc"], "onnxruntime": EMULATOR, "openvino": EMULATOR}
AOE = ["aoe"]

_NAME = "the ONNX file has no input or output of this name: give another file, or run make onnx"
_GEARS = (
    f"the gears do not match --input_shape: give {LEAST_GEARS} to {MOST_GEARS} different gears "
    f"({MOST_GEARS_950} on an Ascend950), with one value for each -1"
)
OPERATORS = "since CANN 8.5 the operators are in a separate package for each chip: install the ops package of this chip"
HINTS = {
    "E10001": "this CANN does not accept the value: compare SOC with npu-smi info, other values with atc --help",
    "E10003": _GEARS,
    "E10007": "give --framework=5 (ONNX)",
    "E10009": "give only one of --dynamic_batch_size, --dynamic_image_size, --dynamic_dims",
    "E10016": _NAME,
    "E10018": "with --dynamic_batch_size only the batch size may be -1",
    "E10019": "with --dynamic_image_size only height and width may be -1",
    "E10020": "--dynamic_image_size needs two values for each gear: h,w;h,w",
    "E10022": "--output must be a file name without suffix, not a directory",
    "E10031": "with gears at least one axis of --input_shape must be -1",
    **dict.fromkeys(("E10035", "E10036", "E10037", "E10038", "E10039"), _GEARS),
    "E10041": "the ONNX file is damaged or not an ONNX file: give another one, or run make onnx",
    "E10052": "the AIPP file does not match the model: rm it and run make om",
    "E10054": "a required parameter is empty: give --model, --output and --soc_version, each in quotation marks",
    "E19010": "this CANN does not support this operator at the file's opset: export with opset 11, as make onnx does: "
    "torch.onnx.export(..., opset_version=11, dynamo=False)",
    "EC0010": "atc uses the first python3 on PATH outside of .venv, and this python3 lacks packages that TBE imports: "
    "to install them there, deactivate .venv, then "
    "python3 -m pip install decorator attrs psutil scipy sympy cloudpickle tornado absl-py",
    "EZ3003": f"no kernel for this operator on this chip: compare SOC with npu-smi info; {OPERATORS}",
}
CHIP_VALUE = re.compile(r"Value \[?([^\s\]]+)\]? for parameter \[?(?:--)?soc_version\b")


def find_hint(lines: Iterable[str]) -> Optional[str]:
    """The hint for ATC's last lines: of the error codes in them, the first one that HINTS contains, as `E10016: hint`.
    If the chip is rejected, the hint is the most similar name in CHIPS; if the rejected name itself is in CHIPS, the
    hint is to compare SOC with npu-smi info. Newer versions print the process id after the code: `E10016: [PID: 7]
    <time> Op name ...`."""
    lines = list(lines)
    for line in lines:
        if rejected := CHIP_VALUE.search(line):
            nearest = cann.nearest_chip(rejected[1])
            other = "compare SOC with npu-smi info, or use another release of CANN"
            hint = other if nearest == rejected[1] else f"did you mean SOC={nearest}?"
            return f"this CANN does not support the chip {rejected[1]}: {hint}"
    codes = (code for line in lines for code in re.findall(r"\bE[0-9A-Z][0-9]{4}\b", line))
    code = next((code for code in codes if code in HINTS), None)
    return code and f"{code}: {HINTS[code]}"


def run_tool(tool: Sequence[str], arguments: Sequence[str], folder: Path, lock: int) -> None:
    """Run the tool in `folder` and print its log line by line. The tool inherits the file descriptor `lock`. Raises
    WorkFailed if it fails, UserError if it is not on PATH."""
    name, instead = tool[-1], "--tune none" if tool == AOE else "--backend onnxruntime"
    code, last = cann_tool.run(tool, arguments, folder, lock, instead)
    if code:
        failure = last.index(atc_rules.FAILURE) if atc_rules.FAILURE in last else 0
        raise WorkFailed(f"{name} failed, see above", found=f"exit code {code}", hint=find_hint(last[failure:]))


def find_result(tool: str, folder: Path, name: str, suffix: str) -> Path:
    """The file that the tool wrote in `folder` for --output=NAME; newer versions of atc write NAME_linux_x86_64.om.
    Raises WorkFailed unless exactly one file is found."""
    if (folder / f"{name}{suffix}").is_file():
        return folder / f"{name}{suffix}"
    found = sorted(folder.glob(f"{name}*{suffix}"))
    if len(found) != 1:
        what = f"{tool} succeeded but wrote {'several' if found else 'no'} {name}*{suffix}"
        raise WorkFailed(what, found=", ".join(path.name for path in found) or None)
    return found[0]
