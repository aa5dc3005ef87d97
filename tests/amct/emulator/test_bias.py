"""amct.emulator.bias: the corrected bias cancels the shift that a rounded kernel causes in each output channel."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from amct.emulator.bias import correct, rounding_error, shift
from tests.support.onnx_models import model_of, results


def kernel(*shape: int) -> np.ndarray:
    """Weights with one large value in each output channel, so that the others are rounded coarsely."""
    weights = np.random.default_rng(0).uniform(0.001, 0.02, shape).astype(np.float32)
    weights.reshape(shape[0], -1)[:, 0] = 1
    return weights


def convolution(weights: np.ndarray, group: int, bias: bool) -> onnx.ModelProto:
    stored = {"w": weights, **({"b": np.arange(len(weights), dtype=np.float32)} if bias else {})}
    node = helper.make_node("Conv", ["image", *stored], ["out"], "conv", group=group)
    return model_of([node], {"image": ["n", 4, 6, 6]}, {"out": None}, 13, **stored)


def test_rounding_error() -> None:
    weights = np.array([[[[1.0, 0.5]]], [[[0.0, 0.0]]]], np.float32)
    np.testing.assert_allclose(rounding_error(weights)[0, 0, 0], [0, 0.5 - 64 / 127], atol=1e-7)
    assert rounding_error(weights)[1].tolist() == [[[0, 0]]]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_the_mean_of_each_channel_is_restored(group: int, bias: bool) -> None:
    values = np.random.default_rng(1).uniform(0, 4, (8, 4, 6, 6)).astype(np.float32)
    weights = kernel(4, 4 // group, 3, 3)
    model = convolution(weights, group, bias)
    corrected = correct(model, {"image": values.mean(axis=(0, 2, 3), dtype=np.float64)}, ())
    for each in corrected.graph.initializer:
        if each.name == "w":
            rounded = weights - rounding_error(weights)
            each.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), "w"))
    plain = convolution(rounded.astype(np.float32), group, bias)
    exact, before, after = (
        results(each.SerializeToString(), values).mean(axis=(0, 2, 3)) for each in (model, plain, corrected)
    )
    assert np.abs(after - exact).max() < 0.1 * np.abs(before - exact).max()
    assert [each.name for each in corrected.graph.initializer] == ["w", "out_bias"]


def test_the_shift_of_two_groups() -> None:
    weights = kernel(4, 2, 1, 1)
    errors, mean = rounding_error(weights)[:, :, 0, 0], np.array([1.0, 2, 3, 4])
    np.testing.assert_allclose(shift(weights, mean, 2), [*(errors[:2] @ mean[:2]), *(errors[2:] @ mean[2:])])


def test_nodes_that_are_not_corrected() -> None:
    """A node that stays float, and a node whose input has no means."""
    model = convolution(kernel(4, 4, 1, 1), 1, True)
    mean = {"image": np.ones(4)}
    for changed in (correct(model, mean, {"conv"}), correct(model, {}, ())):
        assert changed.graph == model.graph
