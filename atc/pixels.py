"""uint8 pixels into a model with gears: the graph itself normalises them, since AIPP does not go with --dynamic_dims.

The input keeps its name and becomes uint8 [N, H, W, 3]; behind it stand Transpose, Cast and `(in - min) * var_reci` by
channel, AIPP's arithmetic with AIPP's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from atc import graph

CHANNELS = 3
PIXEL_MAX = 255
TO_PLANES = [0, 3, 1, 2]  # NHWC to NCHW


def take_pixels(model: onnx.ModelProto, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let the model's one input, float32 [N, 3, H, W], be uint8 RGB [N, H, W, 3], in place; `mean` and `std` of pixels
    scaled to 0..1. Raises ValueError for another input."""
    inputs = graph.inputs(model)
    found = [f"{tensor.name} {tensor.dtype}{tensor.shape}" for tensor in inputs]
    if len(inputs) != 1 or inputs[0].dtype != "float32" or inputs[0].shape[1:2] != [CHANNELS]:
        raise ValueError(f"expected one input float32[N, {CHANNELS}, H, W], found {', '.join(found)}")
    name = inputs[0].name
    names = {tensor for node in model.graph.node for tensor in (*node.input, *node.output)}
    prefix = f"{name}_pixels"
    while any(tensor.startswith(prefix) for tensor in names):
        prefix += "_"
    planes, real, centred, normal = (f"{prefix}_{step}" for step in ("planes", "real", "centred", "normal"))
    constants = {
        f"{prefix}_min": PIXEL_MAX * np.asarray(mean, np.float64),
        f"{prefix}_var_reci": 1 / (PIXEL_MAX * np.asarray(std, np.float64)),
    }
    for key, values in constants.items():
        stored = values.astype(np.float32).reshape(1, CHANNELS, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(stored, key))
    low, factor = constants
    nodes = [
        helper.make_node("Transpose", [name], [planes], f"{prefix}_Transpose", perm=TO_PLANES),
        helper.make_node("Cast", [planes], [real], f"{prefix}_Cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", [real, low], [centred], f"{prefix}_Sub"),
        helper.make_node("Mul", [centred, factor], [normal], f"{prefix}_Mul"),
    ]
    for node in model.graph.node:
        node.input[:] = [normal if tensor == name else tensor for tensor in node.input]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    (value,) = [value for value in model.graph.input if value.name == name]
    value.type.tensor_type.elem_type = TensorProto.UINT8
    dims = value.type.tensor_type.shape.dim
    shuffled = [onnx.TensorShapeProto.Dimension.FromString(dims[axis].SerializeToString()) for axis in (0, 2, 3, 1)]
    del dims[:]
    dims.extend(shuffled)
