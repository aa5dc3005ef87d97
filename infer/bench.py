"""Compiled models of several batch sizes, or one with gears -> one table: the device alone, its latency, and files to
files.

    python -m infer.bench --model build/hrnet_w18/om/bs1-float32-fp32.onnx build/hrnet_w18/om/bs8-float32-fp32.onnx
        --batchsize 1 8 --output build/hrnet_w18/bench/onnxruntime-fp32-dev0.json

Reads    each model and the record beside it (`<model>.json`)
Writes   <name>.md, then <name>.json (kind `bench`), a row for each model, or for each gear; everything else goes to
         <name>_scratch, which is removed
Resumes  rows that a killed run of the same models, loop, devices and tool had finished are kept

Each model is run by ais_bench or by its twin, with the commands that are printed: `--loop` batches of zeros without a
file, one after another (the latency); the same as the tool does it on its own (the rate: the twin computes batches side
by side, so only there is it a second run); and `--loop` batches of seeded random files, to files.
Source of the figures: the model zoo's README (seed 002), whose `ave_latency` is the time of one image and whose card
of Ascend310 has four devices.
"""

from __future__ import annotations

import argparse
import math
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.cli import UserError, WorkFailed, command, integer
from hrnet.io import records
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import check_free_disk, locked, make_folder, write_text
from hrnet.io.runs import BenchRecord, BenchRow
from hrnet.io.summary import read_summary
from hrnet.machine import machine
from infer import run_ais_bench
from infer.bench_case import Case, cases, write_inputs
from infer.bench_page import table
from infer.output_dir import OutputDir

CARD_DEVICES = {"Ascend310": 4}  # devices on a card; a card of the others has one
PURE = "pure_infer_data"  # what ais_bench calls the input of a run without --input
HINT = "then rerun the same command"


def check_batch(model: Path, compiled: CompiledModel, batch: int) -> None:
    """What is divided by must be the model's own batch axis, and what its name says."""
    shape = compiled.inputs[0].shape
    if shape[0] != batch:
        raise UserError(f"is no model of batch {batch}", where=model, expected=batch, found=f"input {shape}")
    named = re.match(r"bs([0-9]+)", model.name)
    if named and int(named[1]) != batch:
        raise UserError("is named for another batch", where=model, expected=f"bs{batch}", found=named[0])


def read_summaries(paths: list[Path], batch: int) -> list[dict[str, Any]]:
    """The summaries of all devices; each throughput must be that of `batch`."""
    summaries = [read_summary(path) for path in paths]
    for path, summary in zip(paths, summaries):
        rate, mean = summary["throughput"], summary["NPU_compute_time"]["mean"]
        if not math.isclose(rate, 1000 * batch / mean, rel_tol=1e-3):
            facts = f"expected 1000 * {batch} / {mean}, found {rate}"
            raise WorkFailed(f"{path}: throughput is not that of batch {batch} ({facts})")
    return summaries


@dataclass(frozen=True)
class Bench:
    """How each model is timed: with which commands, where, and how often."""

    alone: list[str]  # the tool's start, one batch after another
    start: list[str]  # the tool's start as it is on its own
    devices: list[str]
    loop: int
    place: OutputDir
    lock: int

    def run(self, start: list[str], case: Case, inputs: Optional[Path]) -> float:
        """Run the tool in an empty place; return its seconds. Its outputs hold no shape, which is known."""
        self.place.clear()
        dims = f"{case.tensor.name}:{','.join(map(str, case.shape))}" if case.gear and inputs is None else None
        spelled = run_ais_bench.build_command(
            start,
            case.model,
            inputs,
            self.place,
            case.shape[0],
            self.devices,
            self.loop,
            gears=bool(case.gear and inputs),
            dims=dims,
        )
        return run_ais_bench.execute(spelled, self.lock, HINT)

    def pure(self, start: list[str], case: Case) -> list[dict[str, Any]]:
        """The devices' summaries of `loop` batches of zeros, whose outputs must be those of a whole batch."""
        batch = case.shape[0]
        self.run(start, case, None)
        summaries = read_summaries(run_ais_bench.summary_paths(self.place, self.devices), batch)
        for k, size in enumerate(case.compiled.output_bytes(case.shape[1:])):
            file = self.place.folder / f"{PURE}_{k}.bin"
            expected, found = batch * size, file.stat().st_size if file.exists() else "nothing"
            if found != expected:
                facts = f"expected {expected} bytes, found {found}"
                raise WorkFailed(f"{file}: the model's batch is not {batch} ({facts})")
        return summaries

    def files_to_files(self, case: Case, inputs: Path, count: int) -> tuple[float, run_ais_bench.Told]:
        """The seconds of `count` inputs, all of which must have outputs, and what the tool told."""
        wall = self.run(self.start, case, inputs)
        told = run_ais_bench.collect(self.place, self.devices)
        if len(told.files) != count:
            raise WorkFailed(f"{self.place.folder}: outputs (expected of {count} inputs, found of {len(told.files)})")
        return told.host.get("total", wall), told


def time_case(bench: Bench, case: Case, inputs: Path, card: Optional[int]) -> tuple[BenchRow, run_ais_bench.Told]:
    """Time one row in all three ways; its inputs go to `inputs`. `card` is how many devices a card has."""
    batch = case.shape[0]
    images = batch * bench.loop
    alone = bench.pure(bench.alone, case)
    summaries = alone if bench.alone == bench.start else bench.pure(bench.start, case)
    rate = sum(summary["throughput"] for summary in summaries)
    slowest = max((summary["NPU_compute_time"] for summary in alone), key=lambda time: time["median"])
    seconds, told = bench.files_to_files(case, write_inputs(inputs, case, images), images)
    row = BenchRow(
        batch=batch,
        model=str(case.model),
        model_sha256=case.compiled.model_sha256,
        device_images_per_second=rate,
        image_ms=1000 / rate,
        card_images_per_second=rate / len(bench.devices) * card if card else None,
        batch_ms={key: slowest[key] for key in ("median", "percentile(99%)", "mean", "count")},
        images=images,
        seconds=seconds,
        images_per_second=images / seconds,
        gear=case.gear,
    )
    return row, told


def finished_rows(path: Path, settings: dict[str, Any]) -> list[BenchRow]:
    """The rows that a killed run with these settings left."""
    try:
        content = records.read_record(path, "settings")
        rows: list[BenchRow] = [records.from_json(BenchRow, row, path, "row") for row in content.get("rows", [])]
    except records.FormatError:
        return []
    return rows if content.get("settings") == settings else []


def run(
    models: list[Path],
    batches: list[int],
    output: Path,
    loop: int,
    devices: list[str],
    backend: str,
    soc_version: str,
    ais_python: str,
) -> None:
    """Time all models and write the table and, last, the record."""
    if len(models) != len(batches):
        raise UserError("--batchsize", expected=f"one for each of {len(models)} models", found=len(batches))
    if min(batches) * loop < len(devices):
        raise UserError("fewer inputs than devices", found=min(batches) * loop, hint=f"give --loop {len(devices)}")
    compiled = [CompiledModel.read(model) for model in models]
    for model, each, batch in zip(models, compiled, batches):
        check_batch(model, each, batch)
    todo = [case for model, each in zip(models, compiled) for case in cases(model, each)]
    alone, start = (run_ais_bench.tool(backend, ais_python, devices, each) for each in (True, False))
    scratch = output.with_name(f"{output.stem}_scratch")
    around: dict[str, Any] = {
        "devices": devices,
        "soc_version": soc_version if backend == "ascend" else None,
        "loop": loop,
        "machine": machine(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    settings = {**around, "tools": [alone, start], "models": [[case.compiled.model_sha256, case.gear] for case in todo]}
    make_folder(output.parent)
    with locked(output.with_name(f"{output.stem}_lock")) as lock:
        for old in (output, output.with_suffix(".md")):
            old.unlink(missing_ok=True)
        check_free_disk(scratch, max(case.bytes_of_all(case.shape[0] * loop) for case in todo))
        make_folder(scratch)
        bench = Bench(alone, start, devices, loop, OutputDir(scratch, "run", "BIN"), lock)
        card = CARD_DEVICES.get(soc_version) if backend == "ascend" else None
        rows = finished_rows(scratch / "finished.json", settings)[: len(todo) - 1]  # the last one tells of the tool
        if rows:
            print(f"{len(rows)} of {len(todo)} rows were finished before and are kept")
        for case in todo[len(rows) :]:
            row, told = time_case(bench, case, scratch / "inputs", card)
            rows.append(row)
            content = {"settings": settings, "rows": records.to_json(rows)}
            records.write_record(scratch / "finished.json", "settings", content)
        shutil.rmtree(scratch)
        record = BenchRecord(
            metadata=compiled[0].metadata,
            tool=told.tool,
            start_in_seconds="total" not in told.host,
            rows=rows,
            **around,
        )
        text = table(record)
        write_text(output.with_suffix(".md"), text)
        record.write(output)
    print(f"{text}wrote {output} and {output.with_suffix('.md').name} ({len(rows)} rows)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--model", dest="models", type=Path, nargs="+", required=True, help="as atc.convert left them")
    parser.add_argument("--batchsize", dest="batches", type=integer(1), nargs="+", required=True, help="of each model")
    parser.add_argument("--output", type=Path, required=True, help="the record, .json; the table goes beside it")
    parser.add_argument("--loop", type=integer(1), default=20, help="batches of each size (%(default)s)")
    run_ais_bench.add_arguments(parser)
    parser.add_argument("--soc_version", default="Ascend310P3", help="the chip, for its card's rate")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
