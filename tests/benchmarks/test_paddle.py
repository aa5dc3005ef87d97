"""benchmarks/paddle.py with a fake of Paddle's side that computes the steps with torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import paddle
from hrnet.cli import UserError
from pth2onnx import classification
from tests.support import tiny

FAKE = """
import json, os, sys
import numpy as np, torch
from torch.nn import functional

folder, threads = sys.argv[1:]
plan, names = (json.load(open(os.path.join(folder, name))) for name in ("plan.json", "names.json"))
arrays = np.load(os.path.join(folder, "weights.npz"))
weights = {name: torch.from_numpy(arrays[f"arr_{i}"]) for i, name in enumerate(names)}

def compute(step, x):
    if step["op"] == "Conv":
        return functional.conv2d(*x, stride=step["stride"], padding=step["padding"], groups=step["groups"])
    if step["op"] == "Resize":
        return functional.interpolate(x[0], scale_factor=tuple(map(float, step["scale"])), mode="nearest")
    return {"Relu": torch.relu, "Add": torch.add, "Mul": torch.mul, "Sigmoid": torch.sigmoid,
            "Flatten": lambda y: y.flatten(1), "GlobalAveragePool": lambda y: y.mean((2, 3), keepdim=True),
            "Gemm": lambda y, w, b: y @ w.T + b}[step["op"]](*x)

print(json.dumps({"version": f"fake on {threads}"}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if "load" in question:
        batches = torch.from_numpy(np.load(question["load"]))
    else:
        logits = []
        for batch in batches:
            values = {**weights, plan["input"]: batch}
            for step in plan["steps"]:
                values[step["output"]] = compute(step, [values[name] for name in step["inputs"]])
            logits.append(values[plan["output"]])
        if "save" in question:
            np.save(question["save"], torch.cat(logits).numpy())
    print(json.dumps({"done": True}), flush=True)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddle")
    words = ["--cfg", str(tiny.write_config(folder)), "--weights", str(tiny.write_weights(folder))]
    assert classification.main([*words, "--output", str(folder / "model.onnx")]) == 0
    return folder / "model.onnx"


ZEROS = """
import json, sys
import numpy as np

print(json.dumps({"version": "fake"}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if "load" in question:
        images = np.load(question["load"]).shape[:2]
    elif "save" in question:
        np.save(question["save"], np.zeros((images[0] * images[1], CLASSES), np.float32))
    print(json.dumps({"done": True}), flush=True)
"""


def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str = FAKE) -> int:
    worker = tmp_path / "worker.py"
    worker.write_text(code)
    monkeypatch.setattr(paddle, "WORKER", worker)
    words = ["--onnx", str(model), "--paddle_python", sys.executable, "--batches", "2", "--count", "5", "--rounds", "1"]
    return paddle.main(words)


def test_three_candidates_compute_the_same(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    assert run(exported, tmp_path, monkeypatch) == 0
    lines = capfd.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("4 images, batch 2, "))
    assert "fake on " in lines[start]
    assert [line.split()[0] for line in lines[start + 1 :]] == [
        *("onnxruntime", "openvino", "Paddle", "onnxruntime", "openvino")
    ]
    assert all(line.endswith(f"x {paddle.PEER}") for line in lines[start + 3 :])


def test_other_logits_are_an_error(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    assert run(exported, tmp_path, monkeypatch, ZEROS.replace("CLASSES", str(tiny.CLASSES))) == 1
    error = capfd.readouterr().err
    assert "onnxruntime" in error and "differ from those of Paddle Inference" in error


def test_a_process_that_ends(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(paddle, "WORKER", tmp_path / "worker.py")
    assert paddle.main(["--onnx", str(exported), "--paddle_python", sys.executable]) == 1
    assert "exit 3" in capfd.readouterr().err


@pytest.mark.parametrize("python", ["", "/no/such/python"])
def test_without_paddle(python: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paddle.main(["--onnx", str(exported), "--paddle_python", python]) == 2
    assert "--paddle_python=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Softmax", ["image"], ["class"]),
        helper.make_node(
            *("Conv", ["image", "w"], ["class"]), strides=[1, 1], pads=[0, 0, 1, 1], dilations=[1, 1], group=1
        ),
        helper.make_node("Gemm", ["image", "w", "b"], ["class"], transB=1, alpha=2.0),
    ],
    ids=lambda node: node.op_type,
)
def test_nodes_that_cannot_be_translated(node: onnx.NodeProto) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("image", "class")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    with pytest.raises(UserError) as caught:
        paddle.translate(helper.make_model(graph), Path("m.onnx"))
    assert node.op_type in str(caught.value) and caught.value.where == Path("m.onnx")


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("PADDLE_PYTHON"), reason="PADDLE_PYTHON=<a python with paddlepaddle> is not set")
def test_with_paddle_itself(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    assert paddle.main(["--onnx", str(exported), "--batches", "1", "2", "--count", "4", "--rounds", "1"]) == 0
    differences = [float(line.split()[-1]) for line in capfd.readouterr().out.splitlines() if "max |diff" in line]
    assert len(differences) == 4 and np.max(differences) < 1e-3
