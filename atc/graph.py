"""What `convert` and the embedded atc do with an ONNX graph: read it, describe it to the rules, fix its shapes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from atc.rules import Model
from atc.shapes import DYNAMIC, AtcError, invalid
from hrnet.files import AnyPath
from hrnet.formats import TensorInfo


def read(path: AnyPath) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that it keeps in files beside it.

    Raises AtcError: E10001 where there is no file (ATC's own words), E10041 where it is no whole model, E19010 for an
    operator or opset that ONNX does not know.
    """
    if not Path(path).exists():
        raise invalid("model", str(path), f"realpath error, errmsg:{os.strerror(2)}")
    try:
        model = onnx.load(path)
        if not (model.graph.node and model.graph.output and model.opset_import):
            raise ValueError("cut between two fields")
    except Exception:  # of protobuf, of the checker for weights beside it, of the system: nothing in common
        raise AtcError("E10041", f"Failed to load the model from {path}.") from None
    _check_operators(model)
    return model


def _check_operators(model: onnx.ModelProto) -> None:
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    own = {(function.domain or "ai.onnx", function.name) for function in model.functions}
    newest = onnx.defs.onnx_opset_version()
    for node in model.graph.node:
        domain = node.domain or "ai.onnx"
        version = versions.get(domain, 0)
        known = domain == "ai.onnx" and version <= newest and onnx.defs.has(node.op_type, max_inclusive_version=version)
        if not known and (domain, node.op_type) not in own:
            kind = f"{domain}::{version}::{node.op_type}"
            raise AtcError("E19010", f"No parser is registered for Op [{node.name}, optype [{kind}]].")


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def info(value: onnx.ValueInfoProto) -> TensorInfo:
    """An input or output of the graph; -1 where its size varies or is not known."""
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = [dim.dim_value if dim.HasField("dim_value") else DYNAMIC for dim in tensor.shape.dim]
    return TensorInfo(value.name, dtype, shape)


def inputs(model: onnx.ModelProto) -> list[TensorInfo]:
    """The inputs that a caller feeds: those without a stored value."""
    return [info(value) for value in _inputs(model)]


def outputs(model: onnx.ModelProto) -> list[TensorInfo]:
    return [info(value) for value in model.graph.output]


def describe(model: onnx.ModelProto) -> Model:
    """What the rules need to know of `model`."""
    return Model(
        inputs={tensor.name: tensor.shape for tensor in inputs(model)},
        outputs=[value.name for value in model.graph.output],
        nodes={node.name: len(node.output) for node in model.graph.node},
    )


def set_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """Fix the axes of `value`; -1 leaves an axis as it was, or makes it free."""
    dims = value.type.tensor_type.shape.dim
    old = [dim.dim_param for dim in dims]
    del dims[:]
    for axis, size in enumerate(shape):
        if size == DYNAMIC:
            dims.add(dim_param=old[axis] if axis < len(old) and old[axis] else f"{value.name}_{axis}")
        else:
            dims.add(dim_value=size)


def fix_inputs(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs their shapes, in place, and forget all shapes that were derived from the old ones."""
    for value in _inputs(model):
        if value.name in shapes:
            set_shape(value, shapes[value.name])
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
