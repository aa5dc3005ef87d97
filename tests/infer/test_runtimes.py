"""The runtimes of the emulator compute the same numbers, in float32, or reject the model."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atc.emulator import half
from hrnet.cli import UserError, cores
from hrnet.io.compiled import TensorInfo
from infer import runtimes
from infer.emulator import main
from tests.support.linear_model import check_logits, expected_logits, linear_model, prep_folder


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def openvino(model: Path, requests: int = 2) -> runtimes.Runtime:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    return runtimes.load("openvino", str(model), requests)


@pytest.mark.parametrize(
    ("runtime", "device", "what"),
    [("onnxruntime", "1", "has only one device"), ("torchscript", "0,1", "uses one device at a time")],
)
def test_unsupported_devices_are_rejected(runtime: str, device: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        runtimes.check_device(runtime, device)


def test_devices_of_torch_are_accepted() -> None:
    runtimes.check_device("torchscript", "1")


def convolutions(path: Path) -> Path:
    """A model with uint8 NHWC input and float32 output: cast, transpose, 2 convolutions, Relu."""
    generator = np.random.default_rng(1)
    weights = [
        onnx.numpy_helper.from_array(generator.standard_normal((8, channels, 3, 3)).astype(np.float32), f"w{i}")
        for i, channels in enumerate((3, 8))
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["map"]),
        helper.make_node("ReduceMean", ["map"], ["class"], axes=[2, 3], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [4, 16, 16, 3])]
    outputs = [helper.make_tensor_value_info("class", TensorProto.FLOAT, [4, 8])]
    scale = onnx.numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")
    graph = helper.make_graph(nodes, "convolutions", inputs, outputs, [*weights, scale])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def test_openvino_equals_onnxruntime(workdir: Path) -> None:
    model = convolutions(workdir / "m.onnx")
    ours, theirs = openvino(model), runtimes.load("onnxruntime", str(model), 2)
    assert ours.inputs == theirs.inputs == [TensorInfo("image", "uint8", [4, 16, 16, 3])]
    assert ours.outputs == theirs.outputs == [TensorInfo("class", "float32", [4, 8])]
    batches = np.random.default_rng(2).integers(0, 256, (6, 4, 16, 16, 3), np.uint8)
    with ThreadPoolExecutor(3) as pool:  # one more than there are requests
        found = list(pool.map(lambda batch: ours.compute(batch)[0], batches))
    for batch, output in zip(batches, found):
        np.testing.assert_allclose(output, theirs.compute(batch)[0], rtol=1e-4, atol=1e-4)


def test_openvino_computes_in_float32_with_a_stream_for_each_request(workdir: Path) -> None:
    compiled = openvino(linear_model(workdir / "m.onnx", 2)).compiled  # type: ignore[attr-defined]
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_dtype() == np.float32
    assert compiled.get_property("NUM_STREAMS") == min(2, cores())
    assert compiled.get_property("EXECUTION_DEVICES") == ["CPU"]


def test_outputs_are_not_overwritten(workdir: Path) -> None:
    runtime = openvino(linear_model(workdir / "m.onnx", 1), requests=1)
    images = np.random.default_rng(3).standard_normal((2, 1, 3, 4, 4)).astype(np.float32)
    (first,) = runtime.compute(images[0])
    runtime.compute(images[1])
    np.testing.assert_allclose(first, expected_logits(images[0]), rtol=1e-4, atol=1e-4)


def test_a_float16_model_is_rejected(workdir: Path) -> None:
    onnx.save(half.to_half(half.probe()), "half.onnx")
    with pytest.raises(UserError) as error:
        openvino(Path("half.onnx"))
    assert (str(error.value.where), error.value.found) == ("half.onnx", "float16 inside")
    assert "BACKEND=onnxruntime" in str(error.value.hint)


def test_a_truncated_model_is_rejected(workdir: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    Path("cut.onnx").write_bytes(linear_model(workdir / "m.onnx", 1).read_bytes()[:50])
    with pytest.raises(UserError) as error:
        openvino(Path("cut.onnx"))
    assert str(error.value.where) == "cut.onnx" and "Unable to read the model" in error.value.what


def test_the_emulator_runs_on_openvino(workdir: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    images = prep_folder(Path("in"), 5)
    linear_model(Path("m.onnx"), 2)
    where = ["--model", "m.onnx", "--input", "in", "--output", "out", "--output_dirname", "run"]
    assert main.main([*where, "--runtime", "openvino"]) == 0
    check_logits(images, tolerance=1e-4)


def test_a_runtime_that_is_not_installed_is_named(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "infer.runtimes.openvino_runtime", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError) as error:
        runtimes.load("openvino", "m.onnx", 1)
    assert "openvino" in error.value.what and 'pip install ".[openvino]"' in str(error.value.hint)
    where = ["--model", "m.onnx", "--output", "out", "--output_dirname", "run"]
    assert main.main([*where, "--runtime", "openvino"]) == 2, "an invalid argument"
