"""Compare precisions of one model: accuracy, changed predictions and images/s of each, as a table.

    python -m make.precision --model demo_digits --build build --batch_size 16 \\
        --metrics build/demo_digits/eval/digits-float32 --output build/demo_digits/precision/digits-float32.json

Called by `make precision`. Each row has another PRECISION. It is evaluated on the CPU by a call of make with
onnxruntime, and by one with OpenVINO if that is installed (not fp16, which OpenVINO would compute in float32). Other
values are those that make remembers. Existing evaluations are not computed again.

Reads    the metrics and predictions that make eval writes, and the record of keep_float.search
Writes   <output> (kind `precision`) and <name>.md
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet import markdown
from hrnet.cli import UserError, WorkFailed, command, integer, plural
from hrnet.given import settle
from hrnet.io.files import make_folder, write_text
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions
from hrnet.io.records import read_json, read_record, write_record
from hrnet.machine import machine
from make.call import outer_environment
from make.family import setting

BACKENDS = ("onnxruntime", "openvino")
PACKAGES = ("onnx", "onnxruntime", "openvino")
AUTO = "auto"
RATE = "infer end to end"  # key of a metrics record: images/s from input files to output files
CHANGED = {False: "changed classes", True: "images with another number of people"}
HINT = "rows that were evaluated before are kept; run the same command again"


class Row(NamedTuple):
    """A precision: its name in the table, and the variables of make."""

    name: str
    precision: str
    keep_float: str = ""
    backends: Sequence[str] = BACKENDS


ROWS = (
    Row("fp32", "fp32"),
    Row("fp16", "fp16", backends=BACKENDS[:1]),  # OpenVINO would compute float32
    Row("int8, min-max", "int8-minmax"),
    Row("int8, percentile", "int8-percentile"),
    Row("int8, entropy", "int8-entropy"),
    Row("int8, KEEP_FLOAT=auto", "int8", AUTO),
)


def tag(row: Row, backend: str, batch: int) -> str:
    """The name of the evaluation, as make/products.py builds it (TAG)."""
    return f"{backend}-bs{batch}-{row.precision}{f'-keep-{row.keep_float}' if row.keep_float else ''}"


def run_make(args: argparse.Namespace, row: Row, backend: str, product: Path) -> None:
    """Evaluate one row. Raises UserError if make fails."""
    given = {
        "MODEL": args.model,
        "BUILD": args.build,
        "PYTHON": args.python,
        "PRECISION": row.precision,
        "KEEP_FLOAT": row.keep_float,
        "BACKEND": backend,
        "OM": "",
        "TUNE": "none",
        "DEVICE": "0",
        **dict(args.settings),
    }
    words = ["make", "--no-print-directory", "once", str(product)]
    words += [f"{name}={value}" for name, value in given.items()]
    code = subprocess.run(words, env=outer_environment()).returncode
    if code:
        raise UserError(f"{row.name} with {backend}: make failed, see above", found=f"exit {code}", hint=HINT)


def read_top(path: Path, pose: bool) -> dict[str, Any]:
    """{image: its most probable class, or for pose the number of people in it}, from the predictions of the evaluation
    whose metrics are in `path`."""
    predictions = path.with_suffix("") / "predictions.jsonl"
    if pose:
        return {each.source: each.people for each in read_predictions(predictions, PosePrediction)}
    return {each.source: each.classes[0] for each in read_predictions(predictions, ClassPrediction)}


def measure(args: argparse.Namespace, row: Row, backends: Sequence[str], expected: dict[str, Any]) -> dict[str, Any]:
    """The figures of one row; `expected`: the results in float32, empty for float32 itself."""
    figures: dict[str, Any] = {}
    for backend in backends:
        if backend not in row.backends:
            continue
        path = args.metrics / f"{tag(row, backend, args.batch_size)}{args.ending}.json"
        run_make(args, row, backend, path)
        record = read_record(path, "metrics", HINT)
        pose = "AP" in record["metrics"]
        found = read_top(path, pose)
        if expected and found.keys() != expected.keys():
            raise WorkFailed("evaluated on other images than fp32", where=path, hint=f"rm {path}; {HINT}")
        figures[backend] = {
            "accuracy": record["metrics"]["AP" if pose else "top1"],
            "changed": sum(found[name] != value for name, value in expected.items()),
            "images_per_second": record["images_per_second"][RATE],
            "images": record["images"],
            "model": record["model"],
        }
        expected = expected or found
    return {"name": row.name, "precision": row.precision, "keep_float": row.keep_float, "backends": figures}


def read_search(path: Path) -> dict[str, Any]:
    """The result of keep_float.search: for int8 the method to find ranges, the operators that stay in float, and the
    divergence before and after."""
    record = read_record(path, "keep_float", HINT)
    steps = [step for step in record["steps"] if step["accepted"]]
    found = {"method": record.get("method"), "operators": record["operators"], "candidates": record["candidates"]}
    return {**found, "divergence": [steps[0]["divergence"], steps[-1]["divergence"]]}


def table(rows: list[dict[str, Any]], backends: Sequence[str], search: dict[str, Any], pose: bool) -> str:
    metric, changed = "AP %" if pose else "Top-1 %", CHANGED[pose]
    head = ["precision"]
    for backend in backends:
        head += [f"{metric}, {backend}", changed, "images/s"]
    lines = []
    for row in rows:
        chosen = " (used by KEEP_FLOAT=auto)" if row["precision"] == f"int8-{search['method']}" else ""
        kept = f" ({len(search['operators'])} of {search['candidates']} layers in float)" if row["keep_float"] else ""
        cells = [row["name"] + chosen + kept]
        for backend in backends:
            each = row["backends"].get(backend)
            cells += (
                [f"{each['accuracy']:.2f}", str(each["changed"]), f"{each['images_per_second']:.1f}"]
                if each
                else ["-"] * 3
            )
        lines.append(cells)
    return markdown.table(head, lines, "---:")


def run(args: argparse.Namespace) -> None:
    """Evaluate the rows, print the table and write it, then the record."""
    backends = [name for name in BACKENDS if importlib.util.find_spec(name)]
    rows: list[dict[str, Any]] = []
    expected: dict[str, Any] = {}
    for number, row in enumerate(ROWS, 1):
        print(f"row {number} of {len(ROWS)}: {row.name}", flush=True)
        rows.append(measure(args, row, backends, expected))
        settle(0)  # make remembers the variables of this call, even if a later row fails
        if not expected:
            path = args.metrics / f"{tag(row, backends[0], args.batch_size)}{args.ending}.json"
            pose = "AP" in read_json(path, "metrics")["metrics"]
            expected = read_top(path, pose)
    search = read_search(args.build / args.model / "keep_float/int8.json")
    here = machine()
    images = rows[0]["backends"][backends[0]]["images"]
    about = (
        f"{args.model}, {plural(images, 'image')} ({args.metrics.name}), batch {args.batch_size}; "
        f"{here['processor']}, {here['cores']} cores. {CHANGED[pose]}: compared with the {rows[0]['name']} "
        f"predictions of {backends[0]}. images/s include file I/O, but not process starts.\n\n"
    )
    text = about + table(rows, backends, search, pose)
    if search["operators"]:
        text += "\nIn float: " + ", ".join(f"`{name}`" for name in search["operators"]) + "\n"
    make_folder(args.output.parent)
    write_text(args.output.with_suffix(".md"), text)
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    versions = {name: installed[name] for name in PACKAGES if name in installed}
    versions["python"] = platform.python_version()
    about_inputs = {"model": args.model, "inputs": args.metrics.name, "batch": args.batch_size}
    content = {**about_inputs, "machine": here, "versions": versions, "search": search, "rows": rows}
    write_record(args.output, "precision", content)
    print(f"{text}\nwrote {args.output} and {args.output.stem}.md")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.precision", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="MODEL of make")
    parser.add_argument("--build", type=Path, required=True, help="BUILD of make")
    parser.add_argument("--python", default=sys.executable, help="PYTHON of make")
    parser.add_argument("--output", type=Path, required=True, help="record to write, .json; a table is beside it")
    parser.add_argument("--metrics", type=Path, required=True, help="directory of the metrics of make eval")
    parser.add_argument("--batch_size", type=integer(1), default=16, help="BATCH of make (%(default)s)")
    parser.add_argument("--ending", default="", help="end of the names of the metrics: -noflip for FLIP=0")
    text = "NAME=VALUE for make, which does not remember it"
    parser.add_argument("--set", dest="settings", type=setting, action="append", default=[], help=text)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
