"""Match the tensors of an ONNX graph and of its compiled version, and cut both graphs into parts between these tensors.

A tensor is matched by its name, which compilers keep. `atc.emulator` inserts two Casts after an operator and gives the
operator's own output a new name, so that the matched tensor is the rounded one. A quantized graph (QDQ) has a
QuantizeLinear and a DequantizeLinear after tensor x; then x is matched with the output of DequantizeLinear, which the
following operators use. Operators whose outputs are in only one of the graphs, such as folded or fused ones, belong to
the part of the next matched tensor.

A part computes one matched tensor from other matched tensors and from the inputs of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from hrnet.cli import UserError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


@dataclass(frozen=True)
class Part:
    """The operators that compute a matched tensor."""

    model: onnx.ModelProto
    feeds: dict[str, str]  # input of `model` -> the matched tensor that it needs
    dtypes: Mapping[str, type]  # of these inputs
    graph_inputs: list[str]  # inputs of `model` that are inputs of the whole graph
    node: onnx.NodeProto  # the operator to report: the last one with weights, or else the last one
    # If the last operator dequantizes: half of its scale, the largest rounding error. `model` then has a second output,
    # the tensor before it was rounded.
    half_scale: Optional[float]


class Graph:
    """A model with the producer and the type of each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: at for at, node in enumerate(self.nodes) for name in node.output if name}
        self.inputs = {value.name: value for value in model.graph.input if value.name not in self.stored}
        known = onnx.shape_inference.infer_shapes(model).graph
        self.types = {
            value.name: value.type.tensor_type.elem_type for value in (*known.input, *known.output, *known.value_info)
        }
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in used_by(node):
                self.consumers.setdefault(name, []).append(node)

    def dequantized(self, name: str) -> list[str]:
        """The outputs of the DequantizeLinear operators that follow a QuantizeLinear of tensor `name`."""
        pairs = (
            after
            for node in self.consumers.get(name, ())
            if node.op_type == "QuantizeLinear" and node.input[0] == name
            for after in self.consumers.get(node.output[0], ())
        )
        return [after.output[0] for after in pairs if after.op_type == "DequantizeLinear"]

    def constant(self, name: str) -> Optional[np.ndarray]:
        """The value of a stored tensor or of a Constant; None for another tensor."""
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.nodes[self.producers[name]] if name in self.producers else None
        if node is None or node.op_type != "Constant" or node.attribute[0].type != AttributeProto.TENSOR:
            return None
        return numpy_helper.to_array(node.attribute[0].t)


def used_by(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that an operator reads, also inside of graphs that it contains (If, Loop)."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
            own |= {name for inner in graph.node for name in inner.output}
            yield from (name for inner in graph.node for name in used_by(inner) if name not in own)
            yield from (value.name for value in graph.output if value.name not in own)


def match(reference: Graph, compiled: Graph) -> dict[str, list[str]]:
    """{tensor of the reference: the tensors of the compiled graph with its value}, in the reference's order; only float
    tensors that operators compute in both graphs."""
    found = {}
    for node in reference.nodes:
        for name in node.output:
            both = name in compiled.producers and FLOATS.keys() >= {reference.types.get(name), compiled.types.get(name)}
            if both and reference.constant(name) is None and compiled.constant(name) is None:
                typed = [after for after in compiled.dequantized(name) if compiled.types.get(after) in FLOATS]
                found[name] = typed or [name]
    return found


def cut(graph: Graph, matched: Mapping[str, Sequence[str]]) -> dict[str, Part]:
    """The part of each tensor of `matched`, {tensor: its names in `graph`}."""
    borders = {name: tensor for tensor, names in matched.items() for name in names}
    return {tensor: _part(graph, names[0], borders) for tensor, names in matched.items()}


def _part(graph: Graph, target: str, borders: Mapping[str, str]) -> Part:
    nodes: set[int] = set()
    inputs: dict[str, None] = {}  # a set that keeps its order
    stored: dict[str, None] = {}
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in graph.stored:
            stored[name] = None
        elif name in graph.inputs or (name in borders and name != target):
            inputs[name] = None
        elif graph.producers[name] not in nodes:
            nodes.add(graph.producers[name])
            waiting += used_by(graph.nodes[graph.producers[name]])
    ordered = [graph.nodes[at] for at in sorted(nodes)]
    exact, half_scale = _quantized(graph, target)
    outputs = [target, *([exact] if exact else [])]
    made = helper.make_graph(
        [_normal(node) for node in ordered],
        "part",
        [graph.inputs[name] if name in graph.inputs else _value(graph, name) for name in inputs],
        [_value(graph, name) for name in outputs],
        [graph.stored[name] for name in stored],
    )
    for value in made.input:
        value.type.tensor_type.ClearField("shape")  # the batch size may differ
    model = helper.make_model(
        made,
        opset_imports=graph.model.opset_import,
        ir_version=graph.model.ir_version,
        functions=graph.model.functions,
    )
    feeds = {name: borders[name] for name in inputs if name not in graph.inputs}
    dtypes = {name: FLOATS[graph.types[name]] for name in feeds}
    named = next((node for node in reversed(ordered) if node.op_type in WEIGHTED), ordered[-1])
    return Part(model, feeds, dtypes, [name for name in inputs if name in graph.inputs], named, half_scale)


def _normal(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with its attributes in one order, so that equal operators of both graphs have equal bytes."""
    normal = onnx.NodeProto()
    normal.CopyFrom(node)
    del normal.attribute[:]
    normal.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    normal.ClearField("doc_string")
    return normal


def _value(graph: Graph, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, graph.types[name], None)


def _quantized(graph: Graph, target: str) -> tuple[Optional[str], Optional[float]]:
    """If `target` is a float32 tensor after QuantizeLinear and DequantizeLinear with one constant scale: the float32
    tensor before them, and half of the scale, which is the largest rounding error. Else None, None."""
    node = graph.nodes[graph.producers[target]]
    if node.op_type != "DequantizeLinear" or node.input[0] not in graph.producers:
        return None, None
    before, scale = graph.nodes[graph.producers[node.input[0]]], graph.constant(node.input[1])
    if before.op_type != "QuantizeLinear" or before.input[0] not in graph.producers or scale is None or scale.size != 1:
        return None, None
    exact = before.input[0]
    return (exact, float(scale.reshape(())) / 2) if graph.types.get(exact) == TensorProto.FLOAT else (None, None)


def order(parts: Iterable[Mapping[str, Part]]) -> list[str]:
    """An order in which both graphs can compute all matched tensors: that of the first graph, unless the second graph
    needs a tensor earlier. Raises UserError if there is no such order."""
    graphs = list(parts)
    done: dict[str, bool] = {}  # False: its inputs are being visited

    def visit(tensor: str) -> None:
        if done.setdefault(tensor, False):
            return
        for graph in graphs:
            for needed in graph[tensor].feeds.values():
                if done.get(needed) is False:
                    raise UserError("the graphs compute the same tensors in contradicting orders", found=needed)
                if needed not in done:
                    visit(needed)
        del done[tensor]  # so that the dictionary has the order in which they are finished
        done[tensor] = True

    for tensor in graphs[0]:
        if tensor not in done:
            visit(tensor)
    return list(done)


def layer_names(nodes: Iterable[str]) -> dict[str, str]:
    """{name of an ONNX node: name of the torch module that it was exported from}; an empty name for an operator outside
    of a named module, such as a function call in the net's own forward.

    torch's exporter writes `/stage2/stage2.0/branches.0/branches.0.1/relu_1/Relu` for the module
    `stage2.0.branches.0.1.relu`: a list's element repeats the list's name, and `_1` counts calls of one module.
    """
    paths = {name: _module_path(name) for name in nodes}
    known = set(paths.values())
    return {name: _without_count(path, known) for name, path in paths.items()}


def _module_path(node: str) -> str:
    parts: list[str] = []
    for part in node.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _without_count(path: str, known: set[str]) -> str:
    counted = re.fullmatch(r"(.*[^.])_([1-9][0-9]*)", path)
    if counted and counted[1] in known and all(f"{counted[1]}_{i}" in known for i in range(1, int(counted[2]))):
        return counted[1]
    return path
