"""Compare the speed of the ais_bench emulator (files to files) with a plain float32 onnxruntime loop.

    python -m benchmarks.infer_loop --model build/hrnet_w18/om/bs8-float32-int8.onnx \\
        --baseline build/hrnet_w18/om/bs8-float32-fp32.onnx --inputs build/hrnet_w18/prep/imagenet-float32 \\
        --runtime onnxruntime openvino

The loop is what users write: a default InferenceSession (one request on all cores) with inputs and outputs in memory.
The emulator also reads every input and writes every output. "In memory" is the same runtime with the same number of
requests, but on arrays: the emulator cannot be faster. All run alternately in one process, with the models loaded.
With an odd number of batches, one of two cores is idle at the end. The default of 64 inputs (8 batches of 8) avoids
this. A model with uint8 inputs is compared with the float32 loop on the same pixel values as float32.

The last line is a compute bound: the multiply-adds of an image as one product of square matrices in torch (sgemm). A
direct convolution in float32 cannot be faster.

For models with gears (pose) each candidate is a process, and both passes of the flip test are computed: the loop flips
its arrays in memory, and infer.run writes the outputs of both passes. Each candidate runs --rounds times, alternately,
without a warm-up round. Seconds are printed with and without the start of the process. Without the start, only the time
of computing batches is counted: the two passes overlap, so their other times cannot be added.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.turns import in_turn, link_or_copy, report
from hrnet.cli import WorkFailed, command, cores, integer
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.runs import RunRecord
from infer import runtimes
from infer.emulator import path_checks
from infer.emulator.pipeline import Pipeline, default_requests
from infer.runtimes.base import Runtime

# Arguments: model, files. Prints the seconds of both passes, without start.
PLAIN_LOOP = """
import sys, time
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
images = [np.load(file) for file in sys.argv[2:]]
begun = time.perf_counter()
for flip in (False, True):
    for image in images:
        outputs = session.run(None, {name: np.ascontiguousarray(image[..., ::-1]) if flip else image})
print(time.perf_counter() - begun)
"""
FLIP = "-flip"


class Seconds(NamedTuple):
    """Seconds of one run of a process."""

    whole: float
    without_start: float


def multiply_adds(model: Path) -> int:
    """Multiply-adds per image in the convolutions of a float32 model with fixed shapes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(model))).graph
    shapes = {each.name: [size.dim_value for size in each.type.tensor_type.shape.dim] for each in graph.value_info}
    weights = {each.name: list(each.dims) for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return sum(math.prod(shapes[node.output[0]][1:]) * math.prod(weights[node.input[1]][1:]) for node in convolutions)


def stack(arrays: list[np.ndarray], batch: int) -> list[np.ndarray]:
    return [np.stack(arrays[start : start + batch]) for start in range(0, len(arrays), batch)]


def compute_all(runtime: Runtime, batches: list[np.ndarray]) -> None:
    """Compute batches without file I/O, with as many requests as the emulator."""
    with ThreadPoolExecutor(runtime.requests) as pool:
        list(pool.map(runtime.compute, batches))


def run(names: list[str], model: Path, baseline: Path, folder: Path, count: int, rounds: int) -> None:
    """Print images/s of the loop with `baseline` and of the emulator with each runtime in `names`, and the ratio, for
    `count` inputs, rounded down to whole batches."""
    loaded = [runtimes.load(name, str(model), default_requests()) for name in names]
    tensor = loaded[0].static_input()
    batch = tensor.shape[0]
    inputs = path_checks.list_inputs(str(folder))[:count]
    inputs = inputs[: len(inputs) // batch * batch]
    arrays = [np.fromfile(file, tensor.dtype).reshape(tensor.shape[1:]) for file in inputs]
    batches = stack(arrays, batch)
    session = onnxruntime.InferenceSession(str(baseline), providers=["CPUExecutionProvider"])
    given, name = session.get_inputs()[0], session.get_inputs()[0].name
    if tensor.dtype == "uint8" and given.type == "tensor(float)":  # channels last
        arrays = [array.transpose(2, 0, 1).astype(np.float32) for array in arrays]
    plain_batches = stack(arrays, batch)
    square = torch.ones(2 * [round(multiply_adds(baseline) ** (1 / 3))])
    with tempfile.TemporaryDirectory() as scratch:
        candidates: dict[str, Callable[[], object]] = {
            "plain loop": lambda: [session.run(None, {name: each}) for each in plain_batches]
        }
        for runtime in loaded:
            output = make_folder(Path(scratch) / runtime.version.replace(" ", "-"))
            candidates[f"emulator, {runtime.version}"] = Pipeline(runtime, inputs, output, "bin").run
            candidates[f"in memory, {runtime.version}"] = partial(compute_all, runtime, batches)
        candidates["compute bound, sgemm"] = lambda: [torch.mm(square, square) for _ in inputs]
        print(f"{len(inputs)} images, batch {batch}, {cores()} cores, {rounds} rounds, medians")
        report(in_turn(candidates, rounds), len(inputs), "plain loop")


def call(*words: object) -> tuple[float, str]:
    """Run python; returns the seconds and its output."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise WorkFailed(done.stderr.strip() or f"exit {done.returncode}", where=words[1])
    return time.perf_counter() - begun, done.stdout


def both_passes(name: str, model: Path, inputs: Path, output: Path) -> Seconds:
    """Run infer.run with both passes of the flip test."""
    flip = output.with_name(f"{output.name}{FLIP}")
    for old in (output, flip):
        shutil.rmtree(old.parent, ignore_errors=True)
    words = ["--model", model, "--inputs", inputs, "--backend", name, "--output", output, "--output_flip", flip]
    whole, _ = call("-m", "infer.run", *words)
    records = [RunRecord.read(f"{folder}_run.json") for folder in (output, flip)]
    return Seconds(whole, sum(record.seconds["infer"] or 0 for record in records))


def plain_loop(model: Path, inputs: Path) -> Seconds:
    whole, printed = call("-c", PLAIN_LOOP, model, *sorted(inputs.glob("*.npy")))
    return Seconds(whole, float(printed))


def subset(inputs: Path, folder: Path, count: int) -> Path:
    """A directory of the first `count` inputs."""
    manifest = Manifest.read(inputs / "manifest.json")
    make_folder(folder)
    for image in manifest.images[:count]:
        link_or_copy(inputs / f"{image.stem}.npy", folder / f"{image.stem}.npy")
    chosen = vars(manifest) | {"images": manifest.images[:count]}
    Manifest(**chosen).write(folder / "manifest.json")
    return folder


def run_gears(names: list[str], model: Path, baseline: Path, folder: Path, count: int, rounds: int) -> None:
    """Print seconds per image (both passes) of the loop and of infer.run with each runtime in `names`, and the ratio,
    with and without start."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", folder.parent)) as scratch:
        inputs = subset(folder, Path(scratch) / "inputs", count)
        images = len(list(inputs.glob("*.npy")))
        measured: dict[str, list[Seconds]] = {"plain loop": [], **{f"infer.run, {name}": [] for name in names}}
        for _ in range(rounds):
            measured["plain loop"].append(plain_loop(baseline, inputs))
            for name in names:
                output = Path(scratch) / name / "run"
                measured[f"infer.run, {name}"].append(both_passes(name, model, inputs, output))
        print(f"{images} images, both passes, {cores()} cores, {rounds} rounds, medians")
        for name, mine in measured.items():
            texts = []
            for at, what in enumerate(("with start", "without")):
                ratio = statistics.median(loop[at] / each[at] for loop, each in zip(measured["plain loop"], mine))
                seconds = statistics.median(each[at] for each in mine) / images
                texts.append(f"{what} {seconds:6.3f} s/image, speed {ratio:5.2f} x plain loop")
            print(f"{name:24}  {';  '.join(texts)}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infer_loop", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model compiled by the emulator of atc")
    parser.add_argument("--baseline", type=Path, help="float32 model of the plain loop (default: --model)")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of inputs")
    text = "runtimes of the emulator (%(default)s)"
    parser.add_argument("--runtime", choices=runtimes.RUNTIMES, nargs="+", default=["onnxruntime"], help=text)
    parser.add_argument("--count", type=integer(1), default=64, help="number of inputs (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    measure = run_gears if CompiledModel.read(args.model).gears else run
    measure(args.runtime, args.model, args.baseline or args.model, args.inputs, args.count, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
