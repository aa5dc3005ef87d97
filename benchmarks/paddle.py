"""Paddle Inference (oneDNN) compared with onnxruntime and OpenVINO, on the same network with the same weights.

    python -m benchmarks.paddle --onnx build/hrnet_w18/model.onnx --paddle_python ~/paddle/bin/python

Paddle runs in a separate Python environment, given by `PADDLE_PYTHON` or --paddle_python. It needs only paddlepaddle
(3.2.2 was used; `python3 -m venv ~/paddle && ~/paddle/bin/pip install paddlepaddle==3.2.2`). The nodes of the ONNX file
are translated to Paddle's layers and saved as an inference model, so that all three compute the same sums; PaddleClas'
own network of the same name has the same layers. Logits must not differ by more than pth2onnx/parity.py allows.

Each candidate computes one batch at a time with all cores, from arrays in memory. They run alternately. Paddle runs in
a separate process, which gets the same images and measures its own times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import numpy_helper

from atc.emulator import main as atc_emulator
from benchmarks.torchscript import difference
from benchmarks.turns import in_turn, report
from hrnet.cli import UserError, WorkFailed, command, cores, integer
from infer import runtimes
from pth2onnx.parity import images_like

PEER = "Paddle Inference"
WORKER = Path(__file__).with_name("paddle_worker.py")
SAME = ("Relu", "Add", "Mul", "Sigmoid", "GlobalAveragePool")  # operators without attributes
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HINT = "give --paddle_python=<the python of an environment with paddlepaddle>"


def translate(model: onnx.ModelProto, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The nodes of an exported classifier as steps of benchmarks/paddle_worker.py, and its weights by name.

    Raises UserError for a node that the exporter of this project does not write.
    """
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    same: dict[str, str] = {}  # output of an Identity: the weight that it copies
    steps = []
    for node in model.graph.node:
        values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        step: dict[str, Any] = {"op": node.op_type, "inputs": list(node.input), "output": node.output[0]}
        if node.op_type == "Constant":
            weights[node.output[0]] = numpy_helper.to_array(values["value"])
            continue
        if node.op_type == "Identity" and node.input[0] in weights:
            same[node.output[0]] = node.input[0]
            continue
        pads = values.get("pads", [0, 0, 0, 0])
        right = True
        if node.op_type == "Conv":
            step.update(stride=values["strides"], padding=pads[:2], groups=values["group"])
            right = pads[:2] == pads[2:] and set(values["dilations"]) == {1}
        elif node.op_type == "Resize":
            scales = weights[node.input[2]]
            step.update(inputs=[node.input[0]], scale=[int(scale) for scale in scales[2:]])
            how = (values["mode"], values["coordinate_transformation_mode"], values["nearest_mode"])
            right = how == (b"nearest", b"asymmetric", b"floor") and list(scales) == [1, 1, *step["scale"]]
        elif node.op_type == "Gemm":
            right = values.get("transB") == 1 and values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0
        elif node.op_type != "Flatten":
            right = node.op_type in SAME
        if not right:
            raise UserError(
                f"cannot be translated: {node.op_type} {node.name}", where=path, hint="give an ONNX file of make onnx"
            )
        step["inputs"] = [same.get(name, name) for name in step["inputs"]]
        steps.append(step)
    (image,), (output,) = model.graph.input, model.graph.output
    used = {name for step in steps for name in step["inputs"]}
    shape = [size.dim_value for size in image.type.tensor_type.shape.dim][1:]
    plan = {"input": image.name, "shape": shape, "output": output.name, "steps": steps}
    return plan, {name: array for name, array in weights.items() if name in used}


class Worker:
    """Paddle in its own process: one JSON line for each question, one for each answer."""

    def __init__(self, python: str, folder: Path, threads: int) -> None:
        words = [python, str(WORKER), str(folder), str(threads)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version: str = self.answer()["version"]

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise WorkFailed(
                "the process with Paddle ended, see above", where=WORKER, found=f"exit {self.process.wait()}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **question: object) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compile_fixed(model: Path, folder: Path, shape: list[int]) -> Path:
    """The ONNX file with a fixed input shape, as the emulator of atc writes it."""
    flags = [f"--model={model}", f"--output={folder / f'bs{shape[0]}'}", "--soc_version=Ascend310P3", "--log=error"]
    flags += ["--framework=5", "--precision_mode=force_fp32"]
    if atc_emulator.main([*flags, f"--input_shape=image:{','.join(map(str, shape))}"]):
        raise WorkFailed("the emulator of atc rejected the model, see above")
    return folder / f"bs{shape[0]}.onnx"


def run(model: Path, python: str, sizes: list[int], count: int, rounds: int) -> None:
    """Print images/s and ratios for each batch size, over `count` images rounded down to whole batches."""
    if not python or not shutil.which(python):
        raise UserError("no interpreter with Paddle", found=python or None, hint=HINT)
    if not model.is_file():
        raise UserError("no such ONNX file", where=model, hint="run make onnx")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan, weights = translate(onnx.load(str(model)), model)
        (folder / "plan.json").write_text(json.dumps(plan))
        np.savez(folder / "weights.npz", *weights.values())
        (folder / "names.json").write_text(json.dumps(list(weights)))
        worker = Worker(python, folder, cores())
        try:
            for size in sizes:
                compare(worker, compile_fixed(model, folder, [size, *plan["shape"]]), folder, plan, size, count, rounds)
        finally:
            worker.close()


def compare(worker: Worker, file: Path, folder: Path, plan: dict[str, Any], size: int, count: int, rounds: int) -> None:
    """Measure all candidates at one batch size, and compare their logits."""
    height, width = plan["shape"][1:]
    number = max(1, count // size)
    batches = [images_like(size, (width, height), MEAN, STD, seed) for seed in range(number)]
    np.save(folder / "batches.npy", np.stack(batches))
    worker.ask(load=str(folder / "batches.npy"))
    loaded = [runtimes.load(name, str(file), 1) for name in ("onnxruntime", "openvino")]

    def compute(runtime: runtimes.Runtime) -> list[np.ndarray]:
        return [runtime.compute(batch)[0] for batch in batches]

    print(f"{number * size} images, batch {size}, {cores()} cores, {rounds} rounds, medians; {worker.version}")
    worker.ask(save=str(folder / "logits.npy"))
    logits = np.load(folder / "logits.npy")
    for runtime in loaded:
        largest = difference(runtime.version, np.concatenate(compute(runtime)), logits, PEER)
        print(f"{runtime.version}: max |difference| of a logit from Paddle Inference {largest:.1e}")
    ways: dict[str, Callable[[], object]] = {PEER: partial(worker.ask, run=True)}
    ways.update({runtime.version: partial(compute, runtime) for runtime in loaded})
    report(in_turn(ways, rounds), number * size, PEER)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paddle", description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", dest="model", type=Path, required=True, help="a classifier exported by make onnx")
    python = os.environ.get("PADDLE_PYTHON", "")
    parser.add_argument(
        "--paddle_python", dest="python", default=python, help="python with paddlepaddle (PADDLE_PYTHON)"
    )
    text = "batch sizes (%(default)s)"
    parser.add_argument("--batches", dest="sizes", type=integer(1), nargs="+", default=[1, 4, 8], help=text)
    parser.add_argument("--count", type=integer(1), default=32, help="images in each run (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
