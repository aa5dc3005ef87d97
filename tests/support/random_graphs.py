"""Graphs of random operators for hypothesis: [1, CHANNELS, SIDE, SIDE] -> out of the same shape, in any topology."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from tests.support.onnx_models import model_of

CHANNELS, SIDE, MOST = 3, 4, 8
UNARY = ("Relu", "Sigmoid", "Tanh", "Conv", "AveragePool", "Transpose")
BINARY = ("Add", "Mul", "Sub")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A model with 1 to MOST operators after one Conv; each reads any of the last four tensors. The last is `out`."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tensors, nodes, stored = ["image"], [], {}
    kinds = ["Conv", *draw(st.lists(st.sampled_from(UNARY + BINARY), min_size=1, max_size=MOST))]
    for number, kind in enumerate(kinds):
        given = [draw(st.sampled_from(tensors[-4:])) for _ in range(2 if kind in BINARY else 1)]
        attributes: dict[str, object] = {}
        if kind == "Conv":
            stored[f"w{number}"] = (random.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 4).astype(np.float32)
            given.append(f"w{number}")
            attributes = {"pads": [1, 1, 1, 1]}
        elif kind == "AveragePool":
            attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        elif kind == "Transpose":
            attributes = {"perm": [0, 1, 3, 2]}
        name = "out" if number == len(kinds) - 1 else f"t{number}"
        nodes.append(helper.make_node(kind, given, [name], f"/block.{number}/{kind}", **attributes))
        tensors.append(name)
    shape: list[object] = [1, CHANNELS, SIDE, SIDE]
    return model_of(nodes, {"image": ["n", *shape[1:]]}, {"out": ["n", *shape[1:]]}, opset=13, **stored)


def image(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((1, CHANNELS, SIDE, SIDE))
    return (scale * values).astype(np.float32)
