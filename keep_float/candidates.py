"""Build models with some operators in float, as the emulators of amct_onnx and atc do, but in memory."""

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

FLOAT16_LARGEST = 65504.0  # the largest float16

Batches = Callable[[], Iterable[np.ndarray]]


class Candidates(NamedTuple):
    """The models of one precision that can be built."""

    build: Callable[[Collection[str]], onnx.ModelProto]  # names of the ONNX file's nodes that stay in float -> model
    names: list[str]  # nodes that can stay in float, in the graph's order
    facts: dict[str, str]  # for the record


def int8(model: onnx.ModelProto, where: Any, calibrating: Batches, held: Batches) -> Candidates:
    """int8 models. They use the method that amct.emulator would choose for a model without float operators.
    `calibrating`, `held`: read the batches that set the ranges, and those that compare the methods, float32
    [N, C, H, W]; `where`: the ONNX file, for errors. Raises UserError for a model that cannot be quantized."""
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
    """Models that compute in float16. Raises AtcError for a model that atc's emulator rejects."""
    optimised = optimise(model, where)

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return with_half(optimised, locate(kept, model.graph, optimised.graph))

    return Candidates(build, [node.name for node in model.graph.node if node.name], {})


class Overflow(NamedTuple):
    """An overflow in float16 that no list of operators avoids: a convolution or matrix product reads a value above
    FLOAT16_LARGEST."""

    node: str
    tensor: str  # that it reads
    largest: float  # absolute value in the tensor


def overflow(model: onnx.ModelProto, largest: dict[str, float]) -> tuple[set[str], list[Overflow]]:
    """The nodes that compute or read a tensor with values above FLOAT16_LARGEST, and the overflows that no list of
    operators avoids: convolutions and matrix products always read float16. `largest`: {tensor: its largest absolute
    value in float32}."""
    above = {name for name, value in largest.items() if not value <= FLOAT16_LARGEST}
    needed, impossible = set(), []
    for node in model.graph.node:
        read = [name for name in node.input if name in above]
        if read or above.intersection(node.output):
            needed.add(node.name)
        if read and node.op_type in CUBE:
            impossible.append(Overflow(node.name, read[0], largest[read[0]]))
    return needed, impossible
