"""Compiled models of several batch sizes -> one table: the device alone, its latency, and files to files.

    python -m infer.bench --model build/hrnet_w18/om/bs1-float32-fp32.onnx build/hrnet_w18/om/bs8-float32-fp32.onnx
        --batchsize 1 8 --output build/hrnet_w18/bench/onnxruntime-fp32-dev0.json

Reads    each model and the record beside it (`<model>.json`)
Writes   <name>.md, then <name>.json (kind `bench`); everything else goes to <name>_scratch, which is removed

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

from hrnet import formats, tensor_files
from hrnet.cli import UserError, WorkFailed, command, whole
from hrnet.files import check_free_disk, locked, make_folder, write_text
from hrnet.formats import BenchRecord, BenchRow, CompiledModel, TensorInfo
from hrnet.machine import machine
from infer import tool
from infer.place import Place, link_chunk

CARD_DEVICES = {"Ascend310": 4}  # devices on a card; a card of the others has one
PURE = "pure_infer_data"  # what ais_bench calls the input of a run without --input
MEND = "then rerun the same command"
HEAD = ("batch", "device img/s", "ms/image", "batch ms, median", "batch ms, 99%", "files to files img/s")


def check_batch(model: Path, compiled: CompiledModel, batch: int) -> None:
    """What is divided by must be the model's own batch axis, and what its name says."""
    shape = compiled.inputs[0].shape
    if shape[0] != batch:
        raise UserError(f"is no model of batch {batch}", where=model, expected=batch, found=f"input {shape}")
    named = re.match(r"bs([0-9]+)", model.name)
    if named and int(named[1]) != batch:
        raise UserError("is named for another batch", where=model, expected=f"bs{batch}", found=named[0])


def random_input(tensor: TensorInfo, seed: int) -> np.ndarray:
    """One image's input: normal values, or each value of an integer type alike."""
    generator, dtype, shape = np.random.default_rng(seed), np.dtype(tensor.dtype), tensor.shape[1:]
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_inputs(folder: Path, tensor: TensorInfo, count: int) -> list[str]:
    """Seeded random inputs, as preprocess writes images."""
    make_folder(folder)
    names = [f"random{i}.bin" for i in range(count)]
    for i, name in enumerate(names):
        tensor_files.write_bin(folder / name, random_input(tensor, i))
    return names


def read_summaries(paths: list[Path], batch: int) -> list[dict[str, Any]]:
    """The summaries of all devices; each throughput must be that of `batch`."""
    summaries = [formats.read_summary(path) for path in paths]
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
    place: Place
    lock: int

    def run(self, start: list[str], model: Path, inputs: Optional[Path], batch: int) -> float:
        """Run the tool in an empty place; return its seconds."""
        self.place.clear()
        spelled = tool.spell(start, model, inputs, self.place, batch, self.devices, self.loop)
        return tool.execute(spelled, self.lock, MEND)

    def pure(self, start: list[str], model: Path, compiled: CompiledModel) -> list[dict[str, Any]]:
        """The devices' summaries of `loop` batches of zeros, whose outputs must be those of a whole batch."""
        batch = compiled.inputs[0].shape[0]
        self.run(start, model, None, batch)
        summaries = read_summaries(tool.summary_paths(self.place, self.devices), batch)
        for k, output in enumerate(compiled.outputs):
            file = self.place.folder / f"{PURE}_{k}.bin"
            expected, found = batch * output.bytes_of_one(), file.stat().st_size if file.exists() else "nothing"
            if found != expected:
                facts = f"expected {expected} bytes, found {found}"
                raise WorkFailed(f"{file}: the model's batch is not {batch} ({facts})")
        return summaries

    def files_to_files(self, model: Path, inputs: Path, count: int, batch: int) -> tuple[float, tool.Told]:
        """The seconds of `count` inputs, all of which must have outputs, and what the tool told."""
        wall = self.run(self.start, model, inputs, batch)
        told = tool.collect(self.place, self.devices)
        if len(told.files) != count:
            raise WorkFailed(f"{self.place.folder}: outputs (expected of {count} inputs, found of {len(told.files)})")
        return told.host.get("total", wall), told


def time_model(
    bench: Bench, model: Path, compiled: CompiledModel, inputs: Path, card: Optional[int]
) -> tuple[BenchRow, tool.Told]:
    """Time one model in all three ways; `inputs` holds `loop` batches. `card` is how many devices a card has."""
    batch = compiled.inputs[0].shape[0]
    images = batch * bench.loop
    alone = bench.pure(bench.alone, model, compiled)
    summaries = alone if bench.alone == bench.start else bench.pure(bench.start, model, compiled)
    rate = sum(summary["throughput"] for summary in summaries)
    slowest = max((summary["NPU_compute_time"] for summary in alone), key=lambda time: time["median"])
    seconds, told = bench.files_to_files(model, inputs, images, batch)
    row = BenchRow(
        batch=batch,
        model=str(model),
        model_sha256=compiled.model_sha256,
        device_images_per_second=rate,
        image_ms=1000 / rate,
        card_images_per_second=rate / len(bench.devices) * card if card else None,
        batch_ms={key: slowest[key] for key in ("median", "percentile(99%)", "mean", "count")},
        images=images,
        seconds=seconds,
        images_per_second=images / seconds,
    )
    return row, told


def table(record: BenchRecord) -> str:
    """The record as a page of markdown."""
    card = any(row.card_images_per_second for row in record.rows)
    head = [*HEAD, *(["card img/s"] if card else [])]
    lines = [f"| {' | '.join(head)} |", "|" + " ---: |" * len(head)]
    for row in record.rows:
        times = (row.image_ms, row.batch_ms["median"], row.batch_ms["percentile(99%)"])
        cells = [str(row.batch), f"{row.device_images_per_second:.1f}", *(f"{time:.2f}" for time in times)]
        cells += [f"{row.images_per_second:.1f}"]
        cells += [f"{row.card_images_per_second:.1f}"] if card else []
        lines.append(f"| {' | '.join(cells)} |")
    machine = ", ".join(f"{key} {value}" for key, value in record.machine.items())
    versions = ", ".join(f"{key} {value}" for key, value in record.versions.items())
    where = f"{record.soc_version}, " if record.soc_version else ""
    devices = f"device {','.join(record.devices)}"
    seconds = "with the tool's start and the model's loading" if record.start_in_seconds else "the model loaded before"
    return (
        f"{record.tool}, {where}{devices}; {record.loop} batches each; files to files {seconds}.\n\n"
        + "\n".join(lines)
        + f"\n\n{machine}; {versions}.\n"
    )


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
        raise UserError("fewer inputs than devices", found=min(batches) * loop, mend=f"give --loop {len(devices)}")
    compiled = [CompiledModel.read(model) for model in models]
    for model, each, batch in zip(models, compiled, batches):
        check_batch(model, each, batch)
    alone, start = (tool.tool(backend, ais_python, devices, each) for each in (True, False))
    scratch, tensor = output.with_name(f"{output.stem}_scratch"), compiled[0].inputs[0]
    make_folder(output.parent)
    with locked(output.with_name(f"{output.stem}_lock")) as lock:
        for old in (output, output.with_suffix(".md")):
            old.unlink(missing_ok=True)
        if scratch.exists():
            shutil.rmtree(scratch)
        images = max(batches) * loop
        check_free_disk(
            scratch, images * (tensor.bytes_of_one() + sum(each.bytes_of_one() for each in compiled[0].outputs))
        )
        names = write_inputs(scratch / "inputs", tensor, images)
        bench = Bench(alone, start, devices, loop, Place(scratch, "run", "BIN"), lock)
        card = CARD_DEVICES.get(soc_version) if backend == "ascend" else None
        rows = []
        for model, each, batch in zip(models, compiled, batches):
            chunk = link_chunk(scratch / "chunk", scratch / "inputs", names[: batch * loop])
            row, told = time_model(bench, model, each, chunk, card)
            rows.append(row)
        shutil.rmtree(scratch)
        record = BenchRecord(
            metadata=compiled[0].metadata,
            tool=told.tool,
            devices=devices,
            soc_version=soc_version if backend == "ascend" else None,
            loop=loop,
            start_in_seconds="total" not in told.host,
            machine=machine(),
            versions={"python": platform.python_version(), "numpy": np.__version__},
            rows=rows,
        )
        text = table(record)
        write_text(output.with_suffix(".md"), text)
        record.write(output)
    print(f"{text}wrote {output} and {output.with_suffix('.md').name} ({len(rows)} batch sizes)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--model", dest="models", type=Path, nargs="+", required=True, help="as atc.convert left them")
    parser.add_argument("--batchsize", dest="batches", type=whole(1), nargs="+", required=True, help="of each model")
    parser.add_argument("--output", type=Path, required=True, help="the record, .json; the table goes beside it")
    parser.add_argument("--loop", type=whole(1), default=20, help="batches of each size (%(default)s)")
    tool.add_arguments(parser)
    parser.add_argument("--soc_version", default="Ascend310P3", help="the chip, for its card's rate")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
