"""compare/walk.py: the errors of graphs with a known change, and of random graphs."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from atc.emulator.half import MOVING, to_half
from compare.walk import BatchDiffers, Operator, Walk, worst
from hrnet.cli import UserError
from tests.support.onnx_models import classifier, images, model_of, results
from tests.support.random_graphs import graphs, image


def compared(reference: onnx.ModelProto, compiled: onnx.ModelProto, *given: np.ndarray) -> dict[str, Operator]:
    walk = Walk(copy.deepcopy(reference), copy.deepcopy(compiled))
    for each in given or (image(),):
        walk.add(each, each)
    return {operator.tensor: operator for operator in walk.operators()}


def quantized(model: onnx.ModelProto, tensor: str, scale: float, zero: int = 0) -> onnx.ModelProto:
    """A copy with QuantizeLinear and DequantizeLinear after `tensor`; its readers use the result."""
    changed = copy.deepcopy(model)
    at = next(i for i, node in enumerate(changed.graph.node) if tensor in node.output)
    for node in changed.graph.node:
        node.input[:] = [f"{tensor}_dq" if name == tensor else name for name in node.input]
    pair = [
        helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"{tensor}_q"], f"{tensor}_Q"),
        helper.make_node("DequantizeLinear", [f"{tensor}_q", "scale", "zero"], [f"{tensor}_dq"], f"{tensor}_DQ"),
    ]
    for offset, node in enumerate(pair, 1):
        changed.graph.node.insert(at + offset, node)
    constants = {"scale": np.array(scale, np.float32), "zero": np.array(zero, np.int8)}
    changed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return changed


@given(graphs())
@settings(max_examples=40)
def test_an_unchanged_graph_has_no_error(model: onnx.ModelProto) -> None:
    found = compared(model, model)
    assert list(found) == [node.output[0] for node in model.graph.node]
    for operator in found.values():
        assert (operator.error, operator.own_error, operator.largest) == (0, 0, 0)
        assert (operator.overflow, operator.saturated) == (0, 0)
    assert not worst(list(found.values()))


@given(graphs(), st.data())
@settings(max_examples=40)
def test_only_the_changed_operator_has_an_own_error(model: onnx.ModelProto, data: st.DataObject) -> None:
    changed = copy.deepcopy(model)
    at = data.draw(st.integers(0, len(model.graph.initializer) - 1))
    tensor = changed.graph.initializer[at]
    weights = numpy_helper.to_array(tensor) * np.float32(1.5)
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    broken = next(node.output[0] for node in model.graph.node if tensor.name in node.input)
    found = compared(model, changed)
    for name, operator in found.items():
        changes = name == broken and operator.largest_value  # not where all values are 0, as after t - t
        assert operator.own_error == (pytest.approx(0.5, rel=1e-5) if changes else 0), name
    assert {operator.tensor for operator in worst(list(found.values()))} <= {broken}


@given(graphs())
@settings(max_examples=25)
def test_the_error_after_the_last_operator_is_that_of_the_whole_graph(model: onnx.ModelProto) -> None:
    rounded = to_half(model)
    one, other = (results(each.SerializeToString(), image(), "ORT_DISABLE_ALL") for each in (model, rounded))
    out = compared(model, rounded)["out"]
    norm = float(np.linalg.norm(one.astype(np.float64)))
    expected = float(np.linalg.norm(one.astype(np.float64) - other)) / norm if norm else float((one != other).any())
    assert out.error == pytest.approx(expected, rel=1e-9)
    assert out.largest == np.abs(one.astype(np.float64) - other).max()


@given(graphs())
@settings(max_examples=25)
def test_rounding_to_float16_adds_no_error_where_values_are_only_moved(model: onnx.ModelProto) -> None:
    """Such an operator adds an error only if it reads the model's input, which is rounded first."""
    found = compared(model, to_half(model))
    for node in model.graph.node:
        if node.op_type in MOVING and "image" not in node.input:
            assert found[node.output[0]].own_error == 0


def test_sums_are_over_all_images() -> None:
    model = classifier()
    batch = images(4)
    each = compared(model, to_half(model), *(batch[i : i + 1] for i in range(4)))
    together = compared(model, to_half(model), batch)
    for name, operator in each.items():
        assert operator.error == pytest.approx(together[name].error, rel=1e-5)
        assert operator.values == together[name].values


def overflowing() -> onnx.ModelProto:
    """x -> a = 400 x -> b = a^2, above 65504 for x > 0.64 -> c = the root of b -> out = c / 2."""
    nodes = [
        helper.make_node("Mul", ["image", "factor"], ["a"], "/scale/Mul"),
        helper.make_node("Mul", ["a", "a"], ["b"], "/square/Mul"),
        helper.make_node("Sqrt", ["b"], ["c"], "/root/Sqrt"),
        helper.make_node("Mul", ["c", "fraction"], ["out"], "/last/Mul"),
    ]
    stored = {"factor": np.array(400, np.float32), "fraction": np.array(0.5, np.float32)}
    return model_of(nodes, {"image": ["n", 3]}, {"out": ["n", 3]}, **stored)


def test_overflow_is_counted_where_it_begins() -> None:
    values = np.array([[0.125, 1, 2]], np.float32)
    found = compared(overflowing(), to_half(overflowing()), values)
    assert [each.overflow for each in found.values()] == [0, 2, 2, 2]
    assert [each.own_overflow for each in found.values()] == [0, 2, 0, 0]
    assert worst(list(found.values()))[0].node == "/square/Mul"
    assert found["b"].largest_value == 640000


def test_the_largest_float16_counts_as_saturated() -> None:
    values = np.array([[65504 / 400, 0.1, -65504 / 400]], np.float32)
    assert compared(overflowing(), to_half(overflowing()), values)["a"].saturated == 2


def test_a_quantized_tensor_is_compared_after_its_pair() -> None:
    model, values = overflowing(), np.array([[0.1, 1, 2]], np.float32)
    found = compared(model, quantized(model, "a", scale=4.0), values)
    assert list(found) == ["a", "b", "c", "out"]
    assert found["a"].saturated == 1, "800 is above 127 * 4; 400 is not"
    expected = np.linalg.norm([0, 0, 800 - 127 * 4]) / np.linalg.norm([40, 400, 800])
    assert found["a"].own_error == pytest.approx(expected, rel=1e-6)
    assert [found[name].own_error for name in ("b", "c", "out")] == [0, 0, 0]
    assert found["out"].error > 0
    assert found["a"].node == "/scale/Mul"


def test_a_relu_quantized_to_a_limit_is_not_saturated() -> None:
    """With the zero point -128, the value 0 is the smallest integer."""
    nodes = [helper.make_node("Relu", ["image"], ["r"], "/Relu"), helper.make_node("Sqrt", ["r"], ["out"], "/Sqrt")]
    model = model_of(nodes, {"image": ["n", 3]}, {"out": ["n", 3]})
    found = compared(model, quantized(model, "r", 0.125, -128), np.array([[-1, 0, 3]], np.float32))
    assert (found["r"].saturated, found["r"].own_error) == (0, 0)


def test_a_batch_size_in_the_graph_is_reported() -> None:
    nodes = [helper.make_node("Reshape", ["image", "shape"], ["r"]), helper.make_node("Relu", ["r"], ["out"])]
    free, fixed = (
        model_of(nodes, {"image": ["n", 4]}, {"out": None}, shape=np.array(shape)) for shape in ([0, -1], [2, -1])
    )
    walk = Walk(free, fixed)
    with pytest.raises(BatchDiffers):
        walk.add(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))


def test_graphs_without_a_common_tensor() -> None:
    one = model_of([helper.make_node("Relu", ["image"], ["a"])], {"image": [1]}, {"a": [1]})
    other = model_of([helper.make_node("Relu", ["image"], ["b"])], {"image": [1]}, {"b": [1]})
    with pytest.raises(UserError, match="no tensor"):
        Walk(one, other)
