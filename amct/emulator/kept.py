"""Keep layers in float, as skip_layers does: such a layer reads and writes values that are not rounded.

AMCT rounds only the inputs of quantized layers; all other operators compute in float. The emulator also rounds the
values between other operators, since a CPU computes an operator in int8 only if its inputs are rounded. So if a layer
stays in float, the operators next to it also stay in float, and all of them read values that are not rounded.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from amct.amct_rules import LAYERS

ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def with_neighbours(model: onnx.ModelProto, skipped: Collection[str]) -> set[str]:
    """The nodes `skipped`, and the operators that compute an input or read a result of a skipped layer, unless they
    are layers too."""
    made = {name: node for node in model.graph.node for name in node.output}
    found = set(skipped)
    for node in model.graph.node:
        before = [made[name] for name in node.input if name in made]
        if node.op_type in LAYERS and node.name in skipped:
            found |= {each.name for each in before if each.op_type not in LAYERS}
        elif node.op_type not in LAYERS:
            found |= {node.name for each in before if each.op_type in LAYERS and each.name in skipped}
    return found


def all_layers(model: onnx.ModelProto, skipped: Collection[str]) -> bool:
    """Whether the model has layers and all of them are skipped."""
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS]
    return bool(layers) and set(layers) <= set(skipped)


def read_exact(quantized: onnx.ModelProto, source: onnx.ModelProto, skipped: Collection[str]) -> None:
    """Change `quantized` in place, so that the skipped nodes read values before they are rounded. Exception:
    onnxruntime may remove a ReLU, since rounding its result to uint8 also clips at 0; then the result stays rounded."""
    graph = quantized.graph
    made = {name: node for node in graph.node for name in node.output}
    kinds = {name: node.op_type for node in source.graph.node for name in node.output}
    given = {value.name for value in graph.input}
    for node in (node for node in graph.node if node.name in skipped and node.op_type not in ROUNDING):
        for at, name in enumerate(node.input):
            after = made.get(name)
            before = made.get(after.input[0]) if after is not None and after.op_type == ROUNDING[1] else None
            exact = before.input[0] if before is not None and before.op_type == ROUNDING[0] else ""
            if exact in given or (exact in made and made[exact].op_type == kinds.get(exact)):
                node.input[at] = exact
    while unused := _unused(graph):
        for node in unused:
            graph.node.remove(node)


def _unused(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return [node for node in graph.node if node.op_type in ROUNDING and not used & set(node.output)]
