"""Quantize an ONNX graph to int8 with QuantizeLinear and DequantizeLinear (QDQ), using onnxruntime.quantization.

Weights are int8, symmetric, with one scale for each output channel; biases are corrected for the rounding of weights.
Activations are uint8 with one scale for each tensor. The operators in QUANTIZED are quantized; the outputs of the graph
and the results of Gemm and MatMul stay float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, version_converter

from amct.amct_rules import opset_of
from amct.emulator.bias import correct
from amct.emulator.kept import all_layers, read_exact, with_neighbours
from amct.emulator.ranges import Histogram
from hrnet.cli import UserError, cores

PER_CHANNEL_OPSET = 13  # the first opset whose DequantizeLinear has an axis
PASSES = 4  # over the calibration inputs
FLOAT_RESULTS = ("Gemm", "MatMul")
# fmt: off
QUANTIZED = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool",
    "Mul", "Pad", "Relu", "Resize", "Sigmoid", "Upsample",
)
# fmt: on
QUANTIZE = "QuantizeLinear"


def load(model: onnx.ModelProto, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load a model into onnxruntime; raises UserError if it cannot."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors are also raised as exceptions
    options.intra_op_num_threads = threads or cores()
    options.enable_cpu_mem_arena = False  # it keeps the memory of every input size
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise UserError(f"onnxruntime cannot load the model: {' '.join(str(error).split())}") from None


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the opset that quantization needs, with folded constants, batch norm merged into convolutions, and
    the types of all tensors. Raises UserError if onnx or onnxruntime cannot convert it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # slow to import

    try:
        if opset_of(model) < PER_CHANNEL_OPSET:
            model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "source.onnx"), Path(folder, "prepared.onnx")
            onnx.save(model, source)
            quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
            return onnx.load(target)
    except Exception as error:  # the exceptions of both libraries have no common base class
        raise UserError(f"the model cannot be prepared for int8: {' '.join(str(error).split())}") from None


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """The graph's inputs and the results of its nodes that are float32, in order."""
    known = onnx.shape_inference.infer_shapes(model).graph
    stored = {tensor.name for tensor in model.graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in (*known.input, *known.value_info, *known.output)}
    names = [value.name for value in known.input] + [name for node in known.node for name in node.output]
    return [name for name in names if types.get(name) == TensorProto.FLOAT and name not in stored]


def collect(model: onnx.ModelProto, read: Callable[[], Iterable[np.ndarray]]) -> dict[str, Histogram]:
    """The histogram of each float32 tensor over all batches that `read` yields, float32 [N, C, H, W]. The values of all
    tensors for one batch would need gigabytes, so `read` is called PASSES times, each time for a part of the tensors.
    Raises UserError for values that are not finite."""
    names = float_tensors(model)
    found = {name: Histogram() for name in names}
    for part in filter(None, (names[first::PASSES] for first in range(PASSES))):
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        given = {value.name for value in watched.graph.input}
        del watched.graph.output[:]
        watched.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in part if name not in given
        )
        session = load(watched) if watched.graph.output else None
        del watched
        for batch in read():
            values = {name: batch for name in part if name in given}
            if session:
                computed = [output.name for output in session.get_outputs()]
                values |= zip(computed, session.run(computed, {session.get_inputs()[0].name: batch}))
            for name, tensor in values.items():
                try:
                    if tensor.size:
                        found[name].add(tensor)
                except ValueError as error:
                    raise UserError(f"tensor {name}: {error} with the calibration inputs") from None
    return found


def keep_float_outputs(graph: onnx.GraphProto, original: onnx.GraphProto) -> None:
    """Remove the rounding of the graph's outputs, such as heatmaps, in place. Nodes that read an output get the rounded
    values, under another name. The result of a ReLU that onnxruntime removed stays rounded (kept.read_exact)."""
    kinds = {name: node.op_type for node in original.node for name in node.output}
    made = {name: node for node in graph.node for name in node.output}
    for value in graph.output:
        dequantize = made.get(value.name)
        quantize = made.get(dequantize.input[0]) if dequantize and dequantize.op_type == "DequantizeLinear" else None
        source = made.get(quantize.input[0]) if quantize else None
        if dequantize is None or quantize is None or source is None or source.op_type != kinds.get(value.name):
            continue
        name, rounded = quantize.input[0], f"{value.name}_rounded"
        readers = [node for node in graph.node if value.name in node.input]
        for node in readers:
            node.input[:] = [rounded if each == value.name else each for each in node.input]
        dequantize.output[0] = rounded
        for node in graph.node:
            node.input[:] = [value.name if each == name else each for each in node.input]
        source.output[:] = [value.name if each == name else each for each in source.output]
        if not readers:
            graph.node.remove(dequantize)
            graph.node.remove(quantize)


def quantize(
    model: onnx.ModelProto, histograms: Mapping[str, Histogram], method: str, skipped: Collection[str]
) -> onnx.ModelProto:
    """A copy of a prepared model in int8. `histograms`: {tensor: histogram}; `method`: one of METHODS, which finds the
    ranges; `skipped`: nodes that stay float32; if these include all layers, the copy stays float32. Raises UserError if
    there is nothing to quantize."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    means = {name: found for name, each in histograms.items() if (found := each.means()) is not None}
    source = correct(model, means, skipped)
    if all_layers(model, skipped):
        return source
    ranges = {name: each.range(method) for name, each in histograms.items() if each.counts.any()}
    skipped = with_neighbours(model, skipped)
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        source,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=list(skipped),
        op_types_to_quantize=list(QUANTIZED),
        extra_options={"OpTypesToExcludeOutputQuantization": list(FLOAT_RESULTS)},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    read_exact(quantized, model, skipped)
    keep_float_outputs(quantized.graph, model.graph)
    if not skipped and not any(node.op_type == QUANTIZE for node in quantized.graph.node):
        raise UserError("nothing to quantize", expected=f"one of the operators {', '.join(QUANTIZED)}")
    kept = [entry for entry in quantized.opset_import if entry.domain in {node.domain for node in quantized.graph.node}]
    del quantized.opset_import[:]
    quantized.opset_import.extend(kept)
    return quantized


def results(model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The outputs for each batch."""
    session = load(model)
    for batch in batches:
        yield session.run(None, {session.get_inputs()[0].name: batch})


def relative_error(expected: Iterable[list[np.ndarray]], found: Iterable[list[np.ndarray]]) -> float:
    """The mean squared error of each output divided by the variance of its expected values, averaged over the outputs.
    `expected` and `found` are read batch by batch."""
    sums: dict[int, np.ndarray] = {}  # output -> number of values, their sum and sum of squares, squared error
    for pair in zip(expected, found):
        for at, (wanted, got) in enumerate(zip(*pair)):
            values = wanted.astype(np.float64)
            parts = (values.size, values.sum(), np.square(values).sum(), np.square(got - values).sum())
            sums[at] = sums.get(at, 0) + np.array(parts)
    errors = []
    for count, total, squares, error in sums.values():
        variance = max(squares / count - (total / count) ** 2, 0.0)
        errors.append(error / count / (variance or 1.0))
    return float(np.mean(errors))
