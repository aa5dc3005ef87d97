"""Compare the speed of the ais_bench emulator (files to files) with a plain onnxruntime loop on arrays in memory.

    python -m benchmarks.infer_loop --model build/hrnet_w18/om/bs1-float32-fp32.onnx \\
        --inputs build/hrnet_w18/prep/imagenet-float32 --count 64 --rounds 5 --runtime openvino

The loop is what users write: a default InferenceSession (one request on all cores) with inputs and outputs in memory.
The emulator also reads every input and writes every output. Both run alternately in one process, with the model loaded.
With an odd number of batches, one of two cores is idle at the end. The default of 64 inputs (8 batches of 8) avoids
this.

The last line is a compute bound: the multiply-adds of an image as one product of square matrices in torch (sgemm). A
direct convolution in float32 cannot be faster.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.turns import in_turn, report
from hrnet.cli import command, cores, integer
from hrnet.io.files import make_folder
from infer import runtimes
from infer.emulator import path_checks
from infer.emulator.pipeline import Pipeline, default_requests


def multiply_adds(model: Path) -> int:
    """Multiply-adds per image in the convolutions of a model with fixed shapes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(model))).graph
    shapes = {each.name: [size.dim_value for size in each.type.tensor_type.shape.dim] for each in graph.value_info}
    weights = {each.name: list(each.dims) for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return sum(math.prod(shapes[node.output[0]][1:]) * math.prod(weights[node.input[1]][1:]) for node in convolutions)


def run(name: str, model: Path, folder: Path, count: int, rounds: int) -> None:
    """Print images/s of the loop and of the emulator with runtime `name`, and the ratio, for `count` inputs, rounded
    down to whole batches."""
    inputs = path_checks.list_inputs(str(folder))[:count]
    runtime = runtimes.load(name, str(model), default_requests())
    tensor = runtime.static_input()
    batch = tensor.shape[0]
    inputs = inputs[: len(inputs) // batch * batch]
    arrays = [np.fromfile(file, tensor.dtype).reshape(tensor.shape[1:]) for file in inputs]
    batches = [np.stack(arrays[start : start + batch]) for start in range(0, len(arrays), batch)]
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    square = torch.ones(2 * [round(multiply_adds(model) ** (1 / 3))])
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = Pipeline(runtime, inputs, make_folder(Path(scratch) / "out"), "bin")
        candidates: dict[str, Callable[[], object]] = {
            "plain loop": lambda: [session.run(None, {tensor.name: each}) for each in batches],
            f"emulator, {runtime.version}": pipeline.run,
            "compute bound, sgemm": lambda: [torch.mm(square, square) for _ in inputs],
        }
        print(f"{len(inputs)} images, batch {batch}, {cores()} cores, {rounds} rounds, medians")
        report(in_turn(candidates, rounds), len(inputs), "plain loop")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infer_loop", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model compiled by the emulator of atc")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of inputs")
    parser.add_argument("--runtime", choices=runtimes.RUNTIMES, default="onnxruntime", help="(%(default)s)")
    parser.add_argument("--count", type=integer(1), default=64, help="number of inputs (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.runtime, args.model, args.inputs, args.count, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
