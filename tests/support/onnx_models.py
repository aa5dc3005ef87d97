"""Small ONNX models instead of a network, built with onnx.helper; their inputs, and the results of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CLASSES = 10


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[object]],
    outputs: dict[str, list[object] | None],
    opset: int = 11,
    **stored: np.ndarray,
) -> onnx.ModelProto:
    """A model whose inputs and outputs are float32 of these shapes."""
    given, results = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]
        for tensors in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "small", given, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


def classifier(name: str = "image", opset: int = 11, size: object = 16) -> onnx.ModelProto:
    """[batch,3,size,size] -> class [batch,10]: convolution, ReLU, pooling, linear; metadata like pth2onnx's."""
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "linear": random.standard_normal((8, CLASSES)).astype(np.float32),
        "bias": random.standard_normal(CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", [name, "kernel"], ["c"], "Conv_0", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], "Relu_1"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "Pool_2"),
        helper.make_node("Flatten", ["g"], ["f"], "Flatten_3"),
        helper.make_node("Gemm", ["f", "linear", "bias"], ["class"], "Gemm_4"),
    ]
    model = model_of(nodes, {name: ["batch", 3, size, size]}, {"class": ["batch", CLASSES]}, opset, **weights)
    helper.set_model_props(model, {"model": "hrnet_w18", "weights_sha256": "ab" * 32})
    return model


def maps() -> onnx.ModelProto:
    """image [1,3,h,w] -> low [1,4,h/2,w/2] -> high [1,2,h,w], which is computed from low: like a small pose model."""
    random = np.random.default_rng(0)
    stored = {
        "first": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "second": random.standard_normal((2, 4, 1, 1)).astype(np.float32),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["low"], "Conv_0", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Resize", ["low", "roi", "scales"], ["up"], "Resize_1", mode="nearest"),
        helper.make_node("Conv", ["up", "second"], ["high"], "Conv_2"),
    ]
    outputs: dict[str, list[object] | None] = {"low": [1, 4, "h2", "w2"], "high": [1, 2, "h", "w"]}
    return model_of(nodes, {"image": [1, 3, "h", "w"]}, outputs, **stored)


def without_kernel() -> onnx.ModelProto:
    """The classifier with a node Pool_6, which onnxruntime has no kernel for: an average of float64."""
    model = classifier()
    model.graph.node.append(helper.make_node("Cast", ["r"], ["double"], "Cast_5", to=TensorProto.DOUBLE))
    model.graph.node.append(helper.make_node("AveragePool", ["double"], ["pooled"], "Pool_6", kernel_shape=[1, 1]))
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.DOUBLE, None))
    return model


def passing() -> onnx.ModelProto:
    """image [batch,3,H,W] -> `what` [batch,3,H,W], the same values."""
    node = helper.make_node("Identity", ["image"], ["what"], "Identity_0")
    return model_of([node], {"image": ["n", 3, "h", "w"]}, {"what": ["n", 3, "h", "w"]})


def pyramid(factor: int) -> onnx.ModelProto:
    """image [batch,3,h,w] -> sum [batch,8,h,w]: the sum of a convolution with stride `factor`, resized back, and one
    without stride; sizes that are not multiples of `factor` are an error."""
    random = np.random.default_rng(0)
    stored = {
        "small": random.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "whole": random.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, factor, factor], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "small"], ["s"], "Small", strides=[factor, factor]),
        helper.make_node("Resize", ["s", "roi", "scales"], ["up"], "Up", mode="nearest"),
        helper.make_node("Conv", ["image", "whole"], ["w"], "Whole"),
        helper.make_node("Add", ["up", "w"], ["sum"], "Sum"),
    ]
    return model_of(nodes, {"image": ["batch", 3, "h", "w"]}, {"sum": ["batch", 8, "h", "w"]}, **stored)


def padded(size: object = 30, multiple: int = 16) -> onnx.ModelProto:
    """image [batch,3,size,size] -> `what`: the image, zero-padded to a multiple, by sizes that are computed from the
    input's shape, as torch exports it. ONNX's shape inference does not know Mod."""
    stored = {"m": np.array([multiple], np.int64), "sides": np.array([0, 0, 1, 1]), "begin": np.zeros(4, np.int64)}
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"], "Shape"),
        helper.make_node("Mod", ["shape", "m"], ["rest"], "Rest"),
        helper.make_node("Sub", ["m", "rest"], ["missing"], "Missing"),
        helper.make_node("Mod", ["missing", "m"], ["less"], "Less"),
        helper.make_node("Mul", ["less", "sides"], ["end"], "End"),
        helper.make_node("Concat", ["begin", "end"], ["pads"], "Pads", axis=0),
        helper.make_node("Pad", ["image", "pads"], ["what"], "Pad"),
    ]
    return model_of(nodes, {"image": ["batch", 3, size, size]}, {"what": None}, **stored)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def interface(model: Path) -> list[tuple[str, str, list[int | str]]]:
    """Name, type and shape of each input, then of each output, as onnxruntime reads them."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return [(each.name, each.type, each.shape) for each in (*session.get_inputs(), *session.get_outputs())]


def images(batch: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, 3, size, size)).astype(np.float32)


def pixels(batch: int, size: int = 16) -> np.ndarray:
    """uint8 [batch, size, size, 3]; the first image has all 256 values in each channel."""
    values = np.random.default_rng(2).integers(0, 256, (batch, size * size, 3), np.uint8)
    values[0, :256] = np.arange(256, dtype=np.uint8)[:, None]
    return values.reshape(batch, size, size, 3)


def results(model: Path | bytes, batch: np.ndarray, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    """The first output of an ONNX file (or its bytes) for its first input."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]
