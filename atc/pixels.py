"""Change the input of an ONNX model to uint8 pixels [N, H, W, 3]: insert Transpose, Cast and, for each channel, AIPP's
`(in - mean - min) * var_reci` after the input.

`accept_pixels` is for models with gears, since AIPP cannot be combined with --dynamic_dims, and for chips without AIPP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from atc import graph
from atc.atc_command import min_and_var_reci

CHANNELS = 3  # RGB
NHWC_TO_NCHW = [0, 3, 1, 2]
NCHW_TO_NHWC = [0, 2, 3, 1]

Step = tuple[str, str, Sequence[float]]  # operator, name, one value per channel


def accept_pixels(model: onnx.ModelProto, mean: Sequence[float], std: Sequence[float]) -> None:
    """Change the model's only input from float32 [N, 3, H, W] to uint8 RGB [N, H, W, 3], in place. `mean`, `std`: for
    pixels scaled to 0..1. Raises ValueError for other inputs."""
    inputs = graph.inputs(model)
    found = [f"{tensor.name} {tensor.dtype}{tensor.shape}" for tensor in inputs]
    if len(inputs) != 1 or inputs[0].dtype != "float32" or inputs[0].shape[1:2] != [CHANNELS]:
        raise ValueError(f"expected one input float32[N, {CHANNELS}, H, W], found {', '.join(found)}")
    low, factor = min_and_var_reci(mean, std)
    insert_steps(model, inputs[0].name, f"{inputs[0].name}_pixels", [("Sub", "min", low), ("Mul", "var_reci", factor)])


def insert_steps(model: onnx.ModelProto, name: str, prefix: str, steps: Sequence[Step]) -> None:
    """Change the input `name` to pixels and insert `steps` after it. Names of new tensors start with `prefix`."""
    while any(tensor.startswith(prefix) for node in model.graph.node for tensor in (*node.input, *node.output)):
        prefix += "_"
    nodes = [
        helper.make_node("Transpose", [name], [f"{prefix}_planes"], f"{prefix}_Transpose", perm=NHWC_TO_NCHW),
        helper.make_node("Cast", [f"{prefix}_planes"], [f"{prefix}_float"], f"{prefix}_Cast", to=TensorProto.FLOAT),
    ]
    (value,) = [value for value in model.graph.input if value.name == name]
    width = value.type.tensor_type.shape.dim[3].dim_value or 1  # 1 broadcasts to any width
    for operator, step, values in steps:
        # A value for each column, not only for each channel: onnxruntime uses the channels-last layout for int8 models,
        # and there a constant with 3 values would take 10 times as long.
        constant = np.repeat(np.array(values, np.float32), width).reshape(-1, 1, width)
        model.graph.initializer.append(numpy_helper.from_array(constant, f"{prefix}_{step}"))
        inputs = [nodes[-1].output[0], f"{prefix}_{step}"]
        nodes.append(helper.make_node(operator, inputs, [f"{prefix}_{step}_out"], f"{prefix}_{operator}_{step}"))
    for node in model.graph.node:
        node.input[:] = [nodes[-1].output[0] if tensor == name else tensor for tensor in node.input]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    dims = value.type.tensor_type.shape.dim
    shuffled = [onnx.TensorShapeProto.Dimension.FromString(dims[axis].SerializeToString()) for axis in NCHW_TO_NHWC]
    del dims[:]
    dims.extend(shuffled)
