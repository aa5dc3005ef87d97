"""Models with some operators in float, as the emulators of amct_onnx and atc make them, in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Callable, NamedTuple

import numpy as np
import onnx

from amct.amct_rules import LAYERS, METHODS, check_model
from amct.emulator import quantizer
from atc.emulator.half import CUBE
from atc.emulator.main import optimise, with_half
from hrnet.keep_float import locate

HALF_LARGEST = 65504.0  # the largest float16

Batches = Callable[[], Iterable[np.ndarray]]


class Candidates(NamedTuple):
    """How to build models of one precision."""

    build: Callable[[Collection[str]], onnx.ModelProto]  # from the names of nodes of the ONNX file that stay in float
    names: list[str]  # nodes that can stay in float, in the graph's order
    facts: dict[str, str]  # for the record


def int8(model: onnx.ModelProto, where: Any, calibrating: Batches, held: Batches) -> Candidates:
    """int8 models. The method that finds the ranges is the one that amct.emulator chooses for a model without float
    operators. Raises UserError for a model that cannot be quantized."""
    check_model(model, where)
    prepared = quantizer.prepare(model)
    histograms = quantizer.collect(prepared, calibrating)
    errors = {}
    for method in METHODS:
        rounded = quantizer.quantize(prepared, histograms, method, ())
        expected, found = (list(quantizer.results(each, held())) for each in (prepared, rounded))
        errors[method] = quantizer.relative_error(expected, found)
    chosen = min(METHODS, key=lambda name: errors[name])

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantizer.quantize(prepared, histograms, chosen, locate(kept, model.graph, prepared.graph))

    names = [node.name for node in model.graph.node if node.name and node.op_type in LAYERS]
    return Candidates(build, names, {"method": chosen})


def fp16(model: onnx.ModelProto, where: Any) -> Candidates:
    """Models with float16 inside. Raises AtcError for a model that cannot be emulated."""
    optimised = optimise(model, where)

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return with_half(optimised, locate(kept, model.graph, optimised.graph))

    return Candidates(build, [node.name for node in model.graph.node if node.name], {})


class Overflow(NamedTuple):
    """Why float16 cannot be repaired: a convolution or matrix product that reads a value above its largest number."""

    node: str
    tensor: str
    largest: float


def overflow(model: onnx.ModelProto, largest: dict[str, float]) -> tuple[set[str], list[Overflow]]:
    """The nodes that compute or read a tensor with values above 65504, and those of them that no list can repair:
    convolutions and matrix products, which read float16 in any case. `largest`: the largest absolute value of each
    tensor in float32."""
    above = {name for name, value in largest.items() if not value <= HALF_LARGEST}
    needed, impossible = set(), []
    for node in model.graph.node:
        read = [name for name in node.input if name in above]
        if read or above.intersection(node.output):
            needed.add(node.name)
        if read and node.op_type in CUBE:
            impossible.append(Overflow(node.name, read[0], largest[read[0]]))
    return needed, impossible
