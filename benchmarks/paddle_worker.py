"""The Paddle process of benchmarks.paddle. It runs in a Python with paddlepaddle, and imports nothing of this project.

    python paddle_worker.py FOLDER THREADS

Reads    FOLDER/plan.json, names.json and weights.npz; then one JSON line at a time on stdin:
         {"load": "batches.npy"}  float32 [batches, N, 3, H, W]
         {"save": "logits.npy"}   compute all batches and write float32 [batches * N, classes]
         {"run": true}            compute all batches
Writes   FOLDER/inference.json and .pdiparams, Paddle's inference model; on stdout a JSON line with the
         version, then one for each line read
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

del sys.path[0]  # this directory, whose paddle.py is another module
import paddle  # noqa: E402
from paddle import inference, nn  # noqa: E402
from paddle.nn import functional  # noqa: E402


class Net(nn.Layer):
    """The steps of a plan as a network."""

    def __init__(self, plan: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.plan, self.names = plan, {name: f"weight{number}" for number, name in enumerate(weights)}
        matrices = {step["inputs"][1] for step in plan["steps"] if step["op"] == "Gemm"}
        for name, array in weights.items():
            value = np.ascontiguousarray(array.T) if name in matrices else array  # Paddle's linear is [in, out]
            setting = paddle.ParamAttr(initializer=nn.initializer.Assign(value))
            self.add_parameter(self.names[name], self.create_parameter(list(value.shape), attr=setting))

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        values = {self.plan["input"]: image}
        for step in self.plan["steps"]:
            names = step["inputs"]
            inputs = [getattr(self, self.names[name]) if name in self.names else values[name] for name in names]
            values[step["output"]] = compute(step, inputs)
        return values[self.plan["output"]]


def compute(step: dict[str, Any], inputs: list[Any]) -> Any:
    """The result of one step."""
    op = step["op"]
    if op == "Conv":
        weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
        return functional.conv2d(inputs[0], weight, bias, step["stride"], step["padding"], 1, step["groups"])
    if op == "Resize":
        return functional.interpolate(inputs[0], scale_factor=step["scale"], mode="nearest")
    if op == "Gemm":
        return functional.linear(*inputs)
    if op == "Flatten":
        return paddle.flatten(inputs[0], 1)
    if op == "GlobalAveragePool":
        return functional.adaptive_avg_pool2d(inputs[0], 1)
    return {"Relu": functional.relu, "Sigmoid": functional.sigmoid, "Add": paddle.add, "Mul": paddle.multiply}[op](
        *inputs
    )


def save(folder: Path) -> None:
    """Write the inference model of the plan."""
    plan, names = (json.loads((folder / name).read_text()) for name in ("plan.json", "names.json"))
    with np.load(folder / "weights.npz") as arrays:
        weights = {name: arrays[f"arr_{number}"] for number, name in enumerate(names)}
    net = Net(plan, weights)
    net.eval()
    spec = [paddle.static.InputSpec([None, *plan["shape"]], "float32", "image")]
    paddle.jit.save(net, str(folder / "inference"), input_spec=spec)


def load(folder: Path, threads: int) -> Any:
    """Paddle Inference with oneDNN, as PaddleClas' own predictor sets it up for a CPU."""
    program = folder / "inference.json"  # .pdmodel before Paddle 3
    config = inference.Config(
        str(program if program.exists() else program.with_suffix(".pdmodel")), str(folder / "inference.pdiparams")
    )
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(10)  # shapes
    config.set_cpu_math_library_num_threads(threads)
    return inference.create_predictor(config)


def main() -> None:
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Paddle prints to stdout: keep this out of the answers
    save(folder)
    predictor = load(folder, threads)
    image = predictor.get_input_handle(predictor.get_input_names()[0])
    output = predictor.get_output_handle(predictor.get_output_names()[0])
    batches: Any = []

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    answer(version=f"Paddle Inference {paddle.__version__}, oneDNN, {threads} threads")
    for line in sys.stdin:
        question = json.loads(line)
        if "load" in question:
            batches = np.load(question["load"])
        else:
            logits = []
            for batch in batches:
                image.reshape(batch.shape)
                image.copy_from_cpu(batch)
                predictor.run()
                logits.append(output.copy_to_cpu())
            if "save" in question:
                np.save(question["save"], np.concatenate(logits))
        answer(done=True)


if __name__ == "__main__":
    main()
