"""Correct the biases of convolutions for the rounding of their weights.

The rounding errors of a kernel's weights do not cancel: multiplied by the means of the input channels, they shift the
mean of the output channel. The opposite shift is added to the bias, which costs nothing at inference.

Source: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2,
https://arxiv.org/abs/1906.04721; here with the means of the calibration images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

LARGEST = 127  # onnxruntime.quantization rounds symmetric weights to -127 to 127


def rounding_error(weights: np.ndarray) -> np.ndarray:
    """`weights` minus their int8 values, float32 [out, in, H, W], with one scale for each output channel."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scale = (np.where(largest > 0, largest, 1) / LARGEST).reshape(-1, 1, 1, 1)
    return weights - np.round(weights / scale) * scale


def shift(weights: np.ndarray, mean: np.ndarray, groups: int) -> np.ndarray:
    """The amount by which rounding `weights` [out, in / groups, H, W] lowers the mean of each output channel, float64
    [out]. `mean`: the mean of each input channel, float64 [in]. The zeros of the padding are ignored."""
    errors = rounding_error(weights).sum(axis=(2, 3), dtype=np.float64).reshape(groups, -1, weights.shape[1])
    return np.einsum("goi,gi->go", errors, mean.reshape(groups, -1)).reshape(-1)


def correct(model: onnx.ModelProto, means: Mapping[str, np.ndarray], skipped: Collection[str]) -> onnx.ModelProto:
    """A copy of the model with corrected biases of its Conv nodes, except for the nodes `skipped`. `means`: {tensor
    [N, C, H, W]: means of its channels, float64 [C]}."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in changed.graph.node:
        biased = len(node.input) > 2 and bool(node.input[2])
        if node.op_type != "Conv" or node.name in skipped or node.input[0] not in means or node.input[1] not in stored:
            continue
        weights = numpy_helper.to_array(stored[node.input[1]])
        if weights.ndim != 4 or (biased and node.input[2] not in stored):
            continue
        bias = numpy_helper.to_array(stored[node.input[2]]) if biased else np.zeros(len(weights), np.float32)
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        corrected = (bias + shift(weights, means[node.input[0]], groups)).astype(np.float32)
        name = f"{node.output[0]}_bias"
        changed.graph.initializer.append(numpy_helper.from_array(corrected, name))
        node.input[:] = [*node.input[:2], name]
    used = {name for node in changed.graph.node for name in node.input}
    kept = [tensor for tensor in changed.graph.initializer if tensor.name in used]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(kept)
    return changed
