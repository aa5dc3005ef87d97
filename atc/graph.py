"""ONNX graphs: read a file, describe it for atc_rules, set its input shapes, infer its output shapes."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import helper

from atc.atc_rules import Model
from atc.shapes import DYNAMIC, AtcError, invalid
from hrnet.cli import UserError, first_few
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import AnyPath
from hrnet.io.recognise import ONNX, recognise

GIVE = "give ONNX=<file>"
LARGE = 1024  # stored tensors with more values are weights; no shape depends on them
# Operators that change the shape or type of a tensor, but not its values.
SAME_VALUES = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
PROBABILITIES = {"output": "probabilities"}  # metadata of a model that ends with Softmax


def _not_loaded(path: AnyPath) -> str:
    return f"Failed to load the model from {path}."


def read(path: AnyPath) -> onnx.ModelProto:
    """Read an ONNX file, including weights in external files.

    Raises AtcError: E10001 for a missing file (ATC's text), E10041 for a file that is damaged or not ONNX, E19010 for
    an operator or opset that ONNX does not define.
    """
    if not Path(path).exists():
        raise invalid("model", str(path), f"realpath error, errmsg:{os.strerror(2)}")
    try:
        model = onnx.load(path)
        if not (model.graph.node and model.graph.output and model.opset_import):
            raise ValueError("truncated between two fields")
        if not _is_text(model):
            raise ValueError("a name is not UTF-8")
        for value in (*model.graph.input, *model.graph.output):
            info(value)
    except Exception:  # from protobuf, external weights or the system: no common base class
        raise AtcError("E10041", _not_loaded(path)) from None
    _check_operators(model)
    return model


def unreadable(path: AnyPath, error: AtcError, what: str, hint: Optional[str] = None) -> UserError:
    """The error for a file that is damaged or of another kind; for other reasons, `what` with the text of `error`."""
    if error.text != _not_loaded(path):
        return UserError(f"{what}: {error}", where=path, hint=hint)
    kind = recognise(path)
    if kind and kind.name != ONNX:
        return UserError("not an ONNX file", where=path, found=kind.name, hint=kind.hint or GIVE)
    if not kind:
        return UserError("not an ONNX file", where=path, hint=GIVE)
    found = f"{Path(path).stat().st_size} bytes"
    hint = f"copy or download it again, or rm {path}; make onnx"
    return UserError("a damaged or truncated ONNX file", where=path, found=found, hint=hint)


def external_data(path: AnyPath) -> list[Path]:
    """The separate files that contain the weights of an ONNX file; [] if there are none, and for a damaged file, which
    `read` reports. Raises UserError if one is missing."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's
        return []
    external = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    names = {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"}
    files = [Path(path).parent / name for name in sorted(names)]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        what, hint = "the separate file with its weights is missing", "copy it to this path"
        raise UserError(what, where=path, expected=first_few(missing), hint=hint)
    return files


def _is_text(message: Any) -> bool:
    """Whether all strings of a protobuf message are UTF-8; protobuf returns other strings as bytes."""
    for field, value in message.ListFields():
        several = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, several)):
            return False
        if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in several):
            return False
    return True


def _check_operators(model: onnx.ModelProto) -> None:
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    own = {(function.domain or "ai.onnx", function.name) for function in model.functions}
    newest = onnx.defs.onnx_opset_version()
    for node in model.graph.node:
        domain = node.domain or "ai.onnx"
        version = versions.get(domain, 0)
        known = domain == "ai.onnx" and version <= newest and onnx.defs.has(node.op_type, max_inclusive_version=version)
        if not known and (domain, node.op_type) not in own:
            text = f"No parser is registered for Op [{node.name}, optype [{domain}::{version}::{node.op_type}]]."
            raise AtcError("E19010", "".join(letter if letter.isprintable() else "?" for letter in text))


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def info(value: onnx.ValueInfoProto) -> TensorInfo:
    """An input or output of the graph; -1 for a size that is dynamic or unknown."""
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = [dim.dim_value if dim.HasField("dim_value") else DYNAMIC for dim in tensor.shape.dim]
    return TensorInfo(value.name, dtype, shape)


def inputs(model: onnx.ModelProto) -> list[TensorInfo]:
    """The inputs of the model, without stored tensors that the file also lists as inputs."""
    return [info(value) for value in _inputs(model)]


def outputs(model: onnx.ModelProto) -> list[TensorInfo]:
    return [info(value) for value in model.graph.output]


def describe(model: onnx.ModelProto) -> Model:
    """The facts about `model` for atc_rules."""
    return Model(
        inputs={tensor.name: tensor.shape for tensor in inputs(model)},
        outputs=[value.name for value in model.graph.output],
        nodes={node.name: len(node.output) for node in model.graph.node},
    )


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of the file, its opset, and PROBABILITIES if its one output contains them."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    own = {entry.key: entry.value for entry in model.metadata_props}
    return {**own, "opset": str(opset), **(PROBABILITIES if _ends_in_softmax(model) else {})}


def _ends_in_softmax(model: onnx.ModelProto) -> bool:
    """Whether the one output is that of a Softmax, perhaps in another shape or type."""
    if len(model.graph.output) != 1:
        return False
    nodes = {name: node for node in model.graph.node for name in node.output}
    node = nodes.get(model.graph.output[0].name)
    while node is not None and node.op_type in SAME_VALUES:
        node = nodes.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


def set_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """Set the shape of `value`; -1: a dynamic axis, which keeps its name if it has one."""
    dims = value.type.tensor_type.shape.dim
    old = [dim.dim_param for dim in dims]
    del dims[:]
    for axis, size in enumerate(shape):
        if size == DYNAMIC:
            dims.add(dim_param=old[axis] if axis < len(old) and old[axis] else f"{value.name}_{axis}")
        else:
            dims.add(dim_value=size)


def fix_inputs(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Set the shapes of inputs, in place, and remove all shapes that were inferred from the old shapes."""
    for value in _inputs(model):
        if value.name in shapes:
            set_shape(value, shapes[value.name])
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def output_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], strict: bool = False
) -> list[TensorInfo]:
    """The outputs for these input shapes, by ONNX's shape inference. If a size cannot be inferred, for example after
    padding computed from a shape, the model is run once on zeros. Sizes are -1 only if an input has a dynamic axis.

    Raises AtcError: E10041 if shapes inside the model are inconsistent, E10001 if it does not run with the input
    shapes; with `strict`, ValueError in both cases.
    """
    light = _without_weights(model)
    fix_inputs(light, shapes)
    try:
        found = outputs(onnx.shape_inference.infer_shapes(light, strict_mode=strict, data_prop=True))
    except onnx.shape_inference.InferenceError as error:
        message = " ".join(str(error).split())
        if strict:
            raise ValueError(message) from None
        raise AtcError("E10041", f"Failed to load the model. onnx: {message}") from None
    unknown = any(DYNAMIC in tensor.shape or not tensor.shape for tensor in found)
    if not unknown or any(DYNAMIC in shapes.get(tensor.name, tensor.shape) for tensor in inputs(model)):
        return found
    try:
        return _run_on_zeros(model, shapes)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        message = " ".join(str(error).split())
        if strict:
            raise ValueError(message) from None
        at = ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items())
        raise invalid("input_shape", at, f"The model does not run with this shape: {message}") from None


def _run_on_zeros(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> list[TensorInfo]:
    """The outputs, with the shapes that onnxruntime computes."""
    import onnxruntime  # slow to import, and few models need it

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fix_inputs(fixed, shapes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: all errors are also raised as exceptions
    session = onnxruntime.InferenceSession(fixed.SerializeToString(), options, ["CPUExecutionProvider"])
    zeros = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in inputs(fixed)}
    results = session.run([tensor.name for tensor in outputs(model)], zeros)
    return [dataclasses.replace(tensor, shape=list(result.shape)) for tensor, result in zip(outputs(model), results)]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with only the shapes of large stored tensors, for fast shape inference."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    declared = {value.name for value in model.graph.input}
    graph.input.extend(model.graph.input)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= LARGE:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light
