"""Quantize an ONNX graph to int8 with QuantizeLinear and DequantizeLinear (QDQ), by onnxruntime.quantization.

Weights are int8, symmetric, with one scale for each output channel; activations are uint8 with one scale for each
tensor. Quantized are the operators in QUANTIZED; the results of Gemm and MatMul, such as logits, stay float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, version_converter

from amct.amct_rules import opset_of
from amct.emulator.kept import all_layers, read_exact, with_neighbours
from amct.emulator.ranges import Histogram
from hrnet.cli import UserError, cores

PER_CHANNEL_OPSET = 13  # of DequantizeLinear with an axis
FLOAT_RESULTS = ("Gemm", "MatMul")
# fmt: off
QUANTIZED = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool",
    "Mul", "Pad", "Relu", "Resize", "Sigmoid", "Upsample",
)
# fmt: on
NODES = "QuantizeLinear"


def load(model: onnx.ModelProto, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load a model into onnxruntime; raises UserError if it cannot."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors are also raised as exceptions
    options.intra_op_num_threads = threads or cores()
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise UserError(f"onnxruntime cannot load the model: {' '.join(str(error).split())}") from None


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the opset that quantizing needs, constants folded, batch norm in the convolutions, and the types
    of all tensors. Raises UserError if onnx or onnxruntime cannot convert it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # slow to import

    try:
        if opset_of(model) < PER_CHANNEL_OPSET:
            model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "source.onnx"), Path(folder, "prepared.onnx")
            onnx.save(model, source)
            quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
            return onnx.load(target)
    except Exception as error:  # neither library has a common base class
        raise UserError(f"cannot be prepared for int8: {' '.join(str(error).split())}") from None


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """The inputs and results of the graph's nodes that are float32, in order."""
    known = onnx.shape_inference.infer_shapes(model).graph
    stored = {tensor.name for tensor in model.graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in (*known.input, *known.value_info, *known.output)}
    names = [value.name for value in known.input] + [name for node in known.node for name in node.output]
    return [name for name in names if types.get(name) == TensorProto.FLOAT and name not in stored]


def collect(model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> dict[str, Histogram]:
    """The histogram of each float32 tensor over all batches, float32 [N, C, H, W]; one batch is in memory at a time.
    Raises UserError for values that are not finite."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = float_tensors(model)
    results = {value.name for value in watched.graph.output}
    extra = [name for name in names if name not in results | {value.name for value in watched.graph.input}]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra)
    session = load(watched)
    given = session.get_inputs()[0].name
    computed = [name for name in names if name != given]
    found = {name: Histogram() for name in names}
    for batch in batches:
        values = session.run(computed, {given: batch})
        for name, tensor in zip([given, *computed], [batch, *values]):
            if not tensor.size:
                continue
            try:
                found[name].add(tensor)
            except ValueError as error:
                raise UserError(f"tensor {name}: {error} with the calibration inputs") from None
    return found


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], skipped: Collection[str]
) -> onnx.ModelProto:
    """A copy of a prepared model in int8. `ranges`: of the tensors; `skipped`: nodes that stay float32; if these are
    all layers, the copy stays float32. Raises UserError if there is nothing to quantize."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    source = onnx.ModelProto()
    source.CopyFrom(model)
    if all_layers(model, skipped):
        return source
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
    quantized: onnx.ModelProto = quantizer.model.model
    read_exact(quantized, model, skipped)
    if not any(node.op_type == NODES for node in quantized.graph.node):
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


def relative_error(expected: Sequence[list[np.ndarray]], found: Iterable[list[np.ndarray]]) -> float:
    """Squared error of all outputs, divided by the variance of the expected values of that output; the mean over the
    outputs."""
    pairs = list(zip(expected, found))
    errors = []
    for at in range(len(expected[0])):
        wanted, got = (np.concatenate([each[side][at].reshape(-1) for each in pairs]) for side in (0, 1))
        wanted, got = wanted.astype(np.float64), got.astype(np.float64)
        variance = wanted.var() or 1.0
        errors.append(float(np.mean((got - wanted) ** 2) / variance))
    return float(np.mean(errors))
