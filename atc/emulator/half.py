"""Emulate ATC's force_fp16 on a CPU that computes in float32: round all values inside the model to float16.

`to_half(model)` rounds each float32 input, each float32 weight and each operator's results to float16 (nearest, ties to
even, inf from 65520 on; the largest number is 65504). Inputs and outputs of the model stay float32. Weights are rounded
in the file. Inputs and results are rounded by two explicit Casts, to float16 and back. With float16 tensors instead,
onnxruntime's CPU provider would insert its own casts, remove them again and compute in float32. Since version 1.17 it
keeps explicit casts at every optimisation level (tests/atc/emulator/test_half.py). Pure functions.

Source: IEEE 754 binary16; ATC's documentation of --precision_mode. docs/decisions/0008-fp16-inside.md lists what is
emulated and what is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The results of these operators are input values or 0, so they are already rounded.
# fmt: off
MOVING = frozenset((
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))
# fmt: on
CUBE = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators that always read float16
# {operator: indices of the inputs that contain a region or scales}; these must not be rounded.
SIZES = {"Resize": (1, 2), "Upsample": (1,)}


def round_half(values: np.ndarray) -> np.ndarray:
    """Round `values` (float32, any shape) to float16 and convert them back to float32; inf above the float16 range."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def probe() -> onnx.ModelProto:
    """A test model, y = sqrt(x * x), both [1]: for x = 300 the result is inf if float16 is used, else 300."""
    nodes = [helper.make_node("Mul", ["x", "x"], ["s"], "Mul_0"), helper.make_node("Sqrt", ["s"], ["y"], "Sqrt_1")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph(nodes, "probe", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """{tensor: element type} for the tensors with a known type."""
    known = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in known.initializer}
    for value in (*known.input, *known.output, *known.value_info):
        if value.type.tensor_type.elem_type:
            types[value.name] = value.type.tensor_type.elem_type
    return types


def _check(model: onnx.ModelProto, types: dict[str, int]) -> None:
    if TensorProto.FLOAT16 in types.values():
        raise ValueError("fp16 for a model that already contains float16")
    for node in model.graph.node:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise ValueError(f"fp16 for {node.op_type} [{node.name}], which contains a graph")
        unknown = [name for name in node.output if name and name not in types]
        if unknown:
            raise ValueError(f"fp16 for {node.op_type} [{node.name}]: the type of {unknown[0]} is unknown")


def _round_trip(source: str, middle: str, target: str) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Cast", [source], [middle], f"{middle}_Cast", to=TensorProto.FLOAT16)
    yield helper.make_node("Cast", [middle], [target], f"{target}_Cast", to=TensorProto.FLOAT)


def to_half(model: onnx.ModelProto, kept: Collection[str] = frozenset()) -> onnx.ModelProto:
    """A copy of `model` that rounds float32 values to float16 after every operator, except for the nodes `kept`.

    A kept node reads and writes float32; other operators read its results rounded. Kept convolutions and matrix
    products still read float16, because the NPU's cube unit accepts only float16.

    Raises ValueError for a model that already has float16 tensors, an operator that contains a graph, and an output
    with unknown type.
    """
    types = _types(model)
    _check(model, types)
    nodes, stored = model.graph.node, {tensor.name for tensor in model.graph.initializer}
    sizes = {node.input[at] for node in nodes for at in SIZES.get(node.op_type, ()) if at < len(node.input)}
    floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT} - sizes
    taken = {*types, *stored, *(name for node in nodes for name in node.input)}
    exact_reads = {name for node in nodes if node.name in kept and node.op_type not in CUBE for name in node.input}
    unrounded = {value.name for value in model.graph.input if value.name in floats - stored}  # tensors
    halves: dict[str, str] = {}  # tensor of `unrounded`: the tensor with the same values, rounded

    def new_name(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in list(rounded.graph.initializer):
        if tensor.name in floats:
            values = numpy_helper.from_array(round_half(numpy_helper.to_array(tensor)), tensor.name)
            if tensor.name in exact_reads:
                values.name = halves[tensor.name] = new_name(f"{tensor.name}_rounded")
                unrounded.add(tensor.name)
                rounded.graph.initializer.append(values)
            else:
                tensor.CopyFrom(values)
    del rounded.graph.node[:]

    def half_of(name: str) -> str:
        if name in unrounded and name not in halves:
            halves[name] = new_name(f"{name}_rounded")
            rounded.graph.node.extend(_round_trip(name, new_name(f"{name}_half"), halves[name]))
        return halves[name] if name in unrounded else name

    for original in nodes:
        keep = original.name in kept
        inputs = list(original.input) if keep and original.op_type not in CUBE else list(map(half_of, original.input))
        node = rounded.graph.node.add()
        node.CopyFrom(original)
        node.input[:] = inputs
        for at, name in enumerate(original.output):
            if keep and name in floats:
                unrounded.add(name)
            elif node.op_type not in MOVING and name in floats:
                node.output[at] = new_name(f"{name}_exact")  # other nodes and the graph's outputs keep using `name`
                rounded.graph.node.extend(_round_trip(node.output[at], new_name(f"{name}_half"), name))
    return rounded
