"""Measure the speed of compiled models, one for each batch size, or of one model with gears; write a table.

    python -m infer.bench --models build/hrnet_w18/om/bs1-float32-fp32.onnx build/hrnet_w18/om/bs8-float32-fp32.onnx \\
        --output build/hrnet_w18/bench/onnxruntime-fp32-dev0.json

Reads    each model and its record (`<model>.json`), which contains the batch size
Writes   <name>.md, then <name>.json (kind `bench`), with a row for each model or each gear; temporary files are in
         <name>_scratch, which is removed at the end
Resumes  rows of a killed run with the same models, loop, devices, tool and code are kept
Keeps    rows of an earlier sweep over other batch sizes, if they are comparable (infer/bench_table.py)

Two figures are defined as in the model zoo's README (https://gitee.com/ascend/ModelZoo-PyTorch, HRNet): ms/image, which
it calls `ave_latency`, and card images/s, which is the rate of a whole card: an Ascend310 card has four devices.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.cli import UserError, command, integer, plural
from hrnet.code import code_sha256
from hrnet.io import records, stamp
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import check_free_disk, locked, make_folder, write_text
from hrnet.io.runs import BenchRecord, BenchRow
from hrnet.machine import machine
from infer import run_ais_bench
from infer.bench_table import find_others, read_others, table, with_others
from infer.bench_timing import Bench, cases
from infer.output_dir import read_settings

CARD_DEVICES = {"Ascend310": 4}  # devices per card; other chips get no column "card images/s"


def check_name(model: Path, compiled: CompiledModel) -> None:
    """Raise UserError if the file name, such as bs16-….om, has another batch size than the model."""
    batch, named = compiled.inputs[0].shape[0], re.match(r"bs([0-9]+)", model.name)
    if named and int(named[1]) != batch:
        raise UserError("the file name has the wrong batch size", where=model, expected=f"bs{batch}", found=named[0])


def run(
    models: list[Path], output: Path, loop: int, devices: list[str], backend: str, soc_version: str, ais_python: str
) -> None:
    """Measure all models, then write the table and, last, the record."""
    compiled = [CompiledModel.read(model) for model in models]
    for model, each in zip(models, compiled):
        check_name(model, each)
    todo = [case for model, each in zip(models, compiled) for case in cases(model, each)]
    inputs = min(case.shape[0] for case in todo) * loop
    if inputs < len(devices):
        hint = f"give --loop {len(devices)} (LOOP={len(devices)})"
        raise UserError("fewer inputs than devices", found=inputs, hint=hint)
    tool = run_ais_bench.find_tool(backend, ais_python, devices)
    around: dict[str, Any] = {
        "devices": devices,
        "soc_version": soc_version if backend == "ascend" else None,
        "loop": loop,
        "machine": machine(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    listed = [[str(case.model), case.compiled.model_sha256, case.gear] for case in todo]
    settings = {**around, "tool": tool.settings, "models": listed}
    made_from = stamp.Stamp(settings, {}, code_sha256("infer.bench", *tool.modules))
    page, scratch = output.with_suffix(".md"), output.with_name(f"{output.stem}_scratch")
    make_folder(output.parent)
    with locked(output.with_name(f"{output.stem}_lock")) as lock:
        if stamp.is_current(output, made_from, [page, output]):
            stamp.touch(output, [page, output])
            return
        finished = scratch / "finished.json"
        before = read_settings(finished)
        if before.get("settings") == made_from._asdict():
            others = read_others(before["others"], finished)
        else:
            before, others = {"rows": []}, find_others(output, page, made_from, models, compiled[0])
        check_free_disk(scratch, max(case.bytes_of_all(case.shape[0] * loop) for case in todo))
        make_folder(scratch)
        # At least one row is measured in this call, since the record contains facts from the tool's result.
        rows = [BenchRow(**row) for row in before["rows"][: len(todo) - 1]]

        def save() -> None:
            content = {
                "settings": made_from._asdict(),
                "rows": records.to_json(rows),
                "others": records.to_json(others),
            }
            records.write_record(finished, "settings", content)

        save()
        for old in (output, page, stamp.stamp_path(output)):
            old.unlink(missing_ok=True)
        bench = Bench(tool, devices, loop, scratch, lock)
        card_devices = CARD_DEVICES.get(soc_version) if backend == "ascend" else None
        if rows:
            print(f"{len(rows)} of {len(todo)} rows were finished before and are kept")
        count, batches = plural(len(todo) - len(rows), "row"), plural(loop, "batch", "batches")
        print(f"measuring {count} of the table (batch sizes or gears), {batches} each", flush=True)
        started, first = time.monotonic(), len(rows)
        for case in todo[first:]:
            row, result = bench.measure(case, card_devices)
            rows.append(row)
            images = [each.shape[0] for each in todo]
            left = (time.monotonic() - started) * sum(images[len(rows) :]) / sum(images[first : len(rows)])
            if len(rows) < len(todo):
                print(f"row {len(rows)} of {len(todo)} is done, about {left:.0f} s left", flush=True)
            save()
        shutil.rmtree(scratch)
        record = BenchRecord(
            metadata=compiled[0].metadata,
            tool=result.tool,
            seconds_include_start="total" not in result.host,
            rows=rows,
            **around,
        )
        record = with_others(record, others)
        text = table(record)
        write_text(page, text)
        record.write(output)
        stamp.write_stamp(output, made_from, [page, output])
    print(f"{text}wrote {output} and {page.name} ({plural(len(record.rows), 'row')})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="compiled models with their records")
    parser.add_argument("--output", type=Path, required=True, help="record to write (.json), the table is beside it")
    parser.add_argument("--loop", type=integer(1), default=20, help="batches per model or gear (%(default)s)")
    several = "device id, or several ids: 0,1 (%(default)s)"
    parser.add_argument("--device", dest="devices", type=run_ais_bench.device_list, default="0", help=several)
    run_ais_bench.add_arguments(parser)
    parser.add_argument("--soc_version", default="Ascend310P3", help="chip, to compute the rate per card")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
