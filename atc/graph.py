"""What `convert` and the embedded atc do with an ONNX graph: read it, describe it to the rules, fix its shapes, put an
AIPP file's arithmetic before it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from atc.aipp import Aipp, input_shape
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


def insert_aipp(model: onnx.ModelProto, conf: Aipp, input_format: str) -> None:
    """Put an AIPP file's arithmetic before the first input, in place: under its name uint8 [N, H, W, 3] comes in, and
    what read it reads `(in - mean - min) * var_reci` as [N, 3, H, W]. Raises AtcError E10052 where they do not fit."""
    value = _inputs(model)[0]
    shape = input_shape(conf, info(value).shape, input_format)
    prefix = f"{value.name}_aipp"
    while any(name.startswith(prefix) for node in model.graph.node for name in (*node.input, *node.output)):
        prefix += "_"
    head = [
        helper.make_node("Transpose", [value.name], [f"{prefix}_planes"], f"{prefix}_Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [f"{prefix}_planes"], [f"{prefix}_float"], f"{prefix}_Cast", to=TensorProto.FLOAT),
    ]
    steps = [("Sub", "mean", conf.mean, 0.0), ("Sub", "min", conf.min, 0.0), ("Mul", "var_reci", conf.var_reci, 1.0)]
    for operator, name, channels, neutral in steps:
        if any(channel != neutral for channel in channels):
            constant = np.array(channels, np.float32).reshape(-1, 1, 1)
            model.graph.initializer.append(numpy_helper.from_array(constant, f"{prefix}_{name}"))
            inputs = [head[-1].output[0], f"{prefix}_{name}"]
            head.append(helper.make_node(operator, inputs, [f"{prefix}_{name}_out"], f"{prefix}_{operator}_{name}"))
    for node in model.graph.node:
        node.input[:] = [head[-1].output[0] if name == value.name else name for name in node.input]
    nodes = [*head, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    set_shape(value, shape)
