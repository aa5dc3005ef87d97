"""Compare an ONNX file with an .om on the device with `msprobe compare`, and read its table.

    msprobe compare -m offline_model -gp MODEL.onnx -tp MODEL.om -o OUT --input_data batch.bin \\
        --input_shape "image:8,3,224,224" --rank 0

Source: mindstudio-probe 26.2.0 on PyPI (msprobe/core/compare/compare_cli.py, msprobe/infer/offline/compare). msprobe
requires a space between an option and its value. It writes OUT/<yyyymmddHHMMSS>/result_*.csv, one line for each
operator. The exit code is 0 even after some failures, so this module checks that the table exists. The table has the
error after each operator, not the error that the operator adds itself.
"""

from __future__ import annotations

import csv
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import onnx

from compare.graphs import layer_names
from compare.walk import Operator
from hrnet import cann
from hrnet.cli import UserError, WorkFailed
from hrnet.io.records import FormatError

COLUMNS = ("GroundTruth", "CosineSimilarity", "RelativeEuclideanDistance")  # further ones depend on the version
ONLY_ON_NPU = "*"  # GroundTruth of an operator that the ONNX file does not have


def build_command(onnx_file: Path, om: Path, output: Path, batch: Path, shapes: str, device: str) -> list[str]:
    command = ["msprobe", "compare", "-m", "offline_model", "-gp", str(onnx_file), "-tp", str(om), "-o", str(output)]
    return [*command, "--input_data", str(batch), "--input_shape", shapes, "--rank", device]


def run(command: list[str]) -> None:
    """Run msprobe. Raises UserError if it is not installed, WorkFailed if it fails."""
    if shutil.which(command[0]) is None:
        hint = f"pip install mindstudio-probe, and {cann.source_set_env()}"
        raise UserError("msprobe, which compares with a model on the NPU, is not on PATH", hint=hint)
    print(shlex.join(command), flush=True)
    code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if code:
        raise WorkFailed("msprobe failed, see above", found=f"exit code {code}")


def find_result(folder: Path) -> Path:
    """The newest result_*.csv that msprobe wrote below `folder`. Raises WorkFailed if there is none."""
    found = sorted(folder.glob("*/result_*.csv"), key=lambda path: path.parent.name)
    if not found:
        raise WorkFailed("msprobe succeeded but wrote no result_*.csv, see above", where=folder)
    return found[-1]


def read_result(path: Path, model: onnx.ModelProto) -> list[Operator]:
    """The operators in msprobe's table that the ONNX file also has. If the NPU computes several ONNX nodes in one
    operator, their names are separated by commas, and the last one is reported. Lines without figures are skipped:
    msprobe has no data for them."""
    nodes = {node.name: node for node in model.graph.node}
    layers = layer_names(nodes)
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise FormatError("not a table of msprobe", where=path, expected=f"columns {', '.join(missing)}")
        return [found for row in rows for found in _operators(row, nodes, layers)]


def _operators(
    row: Mapping[str, str], nodes: Mapping[str, onnx.NodeProto], layers: Mapping[str, str]
) -> list[Operator]:
    name = row["GroundTruth"].split(",")[-1].strip()
    cosine, relative = (_number(row[column]) for column in COLUMNS[1:])
    if name == ONLY_ON_NPU or name not in nodes or math.isnan(cosine + relative):
        return []
    node, largest = nodes[name], _number(row.get("MaxAbsoluteError", ""))
    operator = Operator(
        tensor=node.output[0],
        node=name,
        kind=node.op_type,
        layer=layers[name],
        error=relative,
        cosine=cosine,
        largest=None if math.isnan(largest) else largest,
        own_error=None,
        own_largest=None,
        overflow=None,
        own_overflow=None,
        saturated=None,
        largest_value=None,
        values=None,
    )
    return [operator]


def _number(text: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def clean(folder: Path) -> None:
    """Create an empty directory. msprobe writes each run to a new subdirectory, named after the time, so files of
    earlier runs would remain."""
    if folder.exists():
        shutil.rmtree(folder)
    os.makedirs(folder, mode=0o750)
