"""atc.emulator.half: values overflow and are rounded as by numpy's float16, at every optimisation level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from atc import atc_rules, graph
from atc.emulator import half, main
from tests.support.atc_arguments import command_of
from tests.support.onnx_models import classifier, images, model_of, results, saved

LEVELS = sorted(onnxruntime.GraphOptimizationLevel.__members__)
LARGEST = 65504.0  # of float16


def x_to_y(nodes: list[onnx.NodeProto], shape: list[int], **weights: np.ndarray) -> onnx.ModelProto:
    return model_of(nodes, {"x": shape}, {"y": None}, **weights)


def compiled(folder: Path, model: onnx.ModelProto, **changes: str) -> Path:
    """The file compiled by the emulator with the arguments `changes`; without any, with force_fp16."""
    saved(folder, model)
    tensor = graph.inputs(model)[0]
    shape = ",".join(str(size if size > 0 else 2) for size in tensor.shape)
    changes = changes or {"precision_mode": "force_fp16"}
    command = command_of(folder, input_format="ND", input_shape=f"{tensor.name}:{shape}", **changes)
    return main.compile_model(atc_rules.parse(command))


def ulps(found: np.ndarray, wanted: np.ndarray) -> int:
    """The largest difference of two float16 arrays, in steps from one float16 number to the next."""
    ours, theirs = (array.view(np.int16).astype(int) for array in (found, wanted))
    return int(np.abs(np.where(ours < 0, -32768 - ours, ours) - np.where(theirs < 0, -32768 - theirs, theirs)).max())


def as_half(values: np.ndarray) -> np.ndarray:
    """Convert to float16; fail if this changes a value."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    np.testing.assert_array_equal(halves.astype(np.float32), values)
    return halves


def squared_and_back() -> onnx.ModelProto:
    """y = x * x / 300: for 300 it is 300 in float32, and inf in float16, since 90000 is above its range."""
    nodes = [helper.make_node("Mul", ["x", "x"], ["s"], "Mul_0"), helper.make_node("Div", ["s", "by"], ["y"], "Div_1")]
    return x_to_y(nodes, [1, 3], by=np.float32([300]))


@pytest.mark.parametrize("level", LEVELS)
def test_an_intermediate_above_65504_is_inf_at_every_level(level: str, tmp_path: Path) -> None:
    x = np.float32([[300, 2, -255]])
    for fp16 in ({"precision_mode": "force_fp16"}, {"precision_mode_v2": "fp16"}):
        found = results(compiled(tmp_path, squared_and_back(), **fp16), x, level)
        assert found.dtype == np.float32 and found[0, 0] == np.inf
        np.testing.assert_array_equal(found[0, 1:], (np.float16([4, 65024]) / np.float16(300)).astype(np.float32))
    exact = results(compiled(tmp_path, squared_and_back(), log="error"), x, level)
    np.testing.assert_allclose(exact, x * x / np.float32(300), rtol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_a_convolution_that_overflows_before_its_relu_and_product(level: str, tmp_path: Path) -> None:
    """Nodes that onnxruntime would fuse without the casts between them."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"], "Conv_0"),
        helper.make_node("Relu", ["c"], ["r"], "Relu_1"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "Pool_2"),
        helper.make_node("Flatten", ["g"], ["f"], "Flatten_3"),
        helper.make_node("Gemm", ["f", "linear", "none"], ["y"], "Gemm_4"),
    ]
    none = np.zeros(8)
    weights = {"kernel": np.full((8, 8, 1, 1), 100), "bias": none, "linear": np.eye(8) / 1024, "none": none}
    model = x_to_y(nodes, [1, 8, 4, 4], **{name: value.astype(np.float32) for name, value in weights.items()})
    path = compiled(tmp_path, model)
    below, above = (np.full((1, 8, 4, 4), value, np.float32) for value in (80, 90))
    assert (results(path, below, level) == 64000 / 1024).all()  # 8 * 100 * 80, a number of float16
    assert not np.isfinite(results(path, above, level)).any()  # 8 * 100 * 90 = 72000; inf * 0 is nan in the Gemm
    assert (results(path, -above, level) == 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_single_operators_are_numpys_float16_to_the_bit(level: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    a, b = random.uniform(0.5, 2, (2, 4, 1000)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m"], "Mul_0"),
        helper.make_node("Add", ["m", "b"], ["s"], "Add_1"),
        helper.make_node("Relu", ["s"], ["r"], "Relu_2"),
        helper.make_node("Sub", ["r", "x"], ["d"], "Sub_3"),
        helper.make_node("Div", ["d", "a"], ["y"], "Div_4"),
    ]
    x = (random.standard_normal((4, 1000)) * 10 ** random.uniform(-6, 3, (4, 1000))).astype(np.float32)
    xh, ah, bh = (values.astype(np.float16) for values in (x, a, b))
    wanted = (np.maximum(xh * ah + bh, np.float16(0)) - xh) / ah
    assert wanted.dtype == np.float16 and np.isfinite(wanted).all()
    found = results(compiled(tmp_path, x_to_y(nodes, [4, 1000], a=a, b=b)), x, level)
    assert ulps(as_half(found), wanted) == 0
    exact = (np.maximum(x * a + b, 0) - x) / a
    assert np.abs(exact - found).max() > 1e-3, "float32 gives other values"


@pytest.mark.parametrize("level", LEVELS)
def test_a_small_net_equals_numpy(level: str, tmp_path: Path) -> None:
    """onnx_models.classifier in plain steps: sums in float64, each result rounded to float16."""
    model, x = classifier(), images(2)
    kernel, linear, bias = (numpy_helper.to_array(tensor).astype(np.float16) for tensor in model.graph.initializer)
    padded = np.pad(x.astype(np.float16), ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    conv = np.zeros((2, 8, 8, 8))
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + 16 : 2, column : column + 16 : 2]
            conv += np.einsum("nchw,oc->nohw", window, kernel[:, :, row, column].astype(np.float64))
    relu = np.maximum(conv.astype(np.float16), np.float16(0))
    pooled = relu.astype(np.float64).mean(axis=(2, 3)).astype(np.float16)
    wanted = (pooled.astype(np.float64) @ linear.astype(np.float64) + bias).astype(np.float16)
    found = as_half(results(compiled(tmp_path, model), x, level))
    close = ulps(found[np.abs(wanted) > 0.25], wanted[np.abs(wanted) > 0.25])
    assert close <= 1, "a sum halfway between two float16 numbers may be rounded up or down"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2**-9)
    saved(tmp_path, model)
    exact = results(tmp_path / "model.onnx", x)
    assert np.abs(exact - found).max() > 2**-9, "float32 gives other values"


NUMBERS = st.one_of(
    st.floats(width=32, allow_nan=False), st.floats(-70000, 70000, width=32), st.floats(-(2.0**-13), 2.0**-13, width=32)
)


@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_inputs_are_rounded_as_by_numpy(values: list[float]) -> None:
    """Ties, subnormal numbers and overflows: onnxruntime's cast equals numpy's."""
    x = np.float32([values])
    model = half.to_half(x_to_y([helper.make_node("Identity", ["x"], ["y"], "Identity_0")], [1, len(values)]))
    found = results(model.SerializeToString(), x)
    np.testing.assert_array_equal(found, half.round_half(x))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, x.astype(np.float16).astype(np.float32))


def test_values_are_rounded_to_even() -> None:
    x = np.float32([1, 1 + 2**-11, 1 + 3 * 2**-11, LARGEST, 65519, 65520, -1e6, 2**-24, 2**-25, 1e-9, np.nan])
    # The second and the third are halfway between two numbers: rounded to even.
    wanted = np.float32([1, 1, 1 + 2**-9, LARGEST, LARGEST, np.inf, -np.inf, 2**-24, 0, 0, np.nan])
    np.testing.assert_array_equal(half.round_half(x), wanted)
    assert half.round_half(x).dtype == np.float32


def test_the_graph_has_casts_around_each_node(tmp_path: Path) -> None:
    before = classifier()
    untouched = before.SerializeToString()
    after = half.to_half(before)
    assert before.SerializeToString() == untouched
    onnx.checker.check_model(after, full_check=True)
    kinds = [node.op_type for node in after.graph.node]
    pair = ["Cast", "Cast"]
    assert kinds == [*pair, "Conv", *pair, "Relu", "GlobalAveragePool", *pair, "Flatten", "Gemm", *pair]
    assert [node.name for node in after.graph.node if node.op_type != "Cast"] == [
        node.name for node in before.graph.node
    ]
    targets = [node.attribute[0].i for node in after.graph.node if node.op_type == "Cast"]
    assert targets == [TensorProto.FLOAT16, TensorProto.FLOAT] * 4
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert after.metadata_props == before.metadata_props
    for old, new in zip(before.graph.initializer, after.graph.initializer):
        assert old.name == new.name and new.data_type == TensorProto.FLOAT
        wanted = numpy_helper.to_array(old).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(numpy_helper.to_array(new), wanted)
    first = compiled(tmp_path, before).read_bytes()
    assert compiled(tmp_path, before).read_bytes() == first
    assert {(entry.domain, entry.version) for entry in onnx.load_from_string(first).opset_import} == {("", 11)}


def test_new_names_avoid_names_in_use() -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["y_exact"], "a"), helper.make_node("Neg", ["y_exact"], ["y"], "b")]
    after = half.to_half(x_to_y(nodes, [1]))
    outputs = [name for node in after.graph.node for name in node.output]
    assert len(set(outputs)) == len(outputs) == 8
    assert [node.output[0] for node in after.graph.node if node.op_type == "Neg"] == ["y_exact_"]


def test_integers_and_sizes_are_not_rounded(tmp_path: Path) -> None:
    """Rounded scales would give other sizes; a MaxPool also returns integer positions."""
    scales, empty = np.float32([1, 1, 2.3334, 2.3334]), np.zeros(0, np.float32)
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m", "at"], "Pool_0", kernel_shape=[1, 1]),
        helper.make_node("Cast", ["at"], ["where"], "Cast_1", to=TensorProto.FLOAT),
        helper.make_node("Add", ["m", "where"], ["s"], "Add_2"),
        helper.make_node("Resize", ["s", "roi", "scales"], ["y"], "Resize_3", mode="nearest"),
    ]
    after = half.to_half(x_to_y(nodes, [1, 1, 3, 3], roi=empty, scales=scales))
    np.testing.assert_array_equal(numpy_helper.to_array(after.graph.initializer[1]), scales)
    path = compiled(tmp_path, x_to_y(nodes, [1, 1, 3, 3], roi=empty, scales=scales))
    x = np.float32([0.1, 10.01, 2048, 2049, 0, 1, 2, 3, 4]).reshape(1, 1, 3, 3)
    found = results(path, x)
    assert found.shape == (1, 1, 7, 7)
    wanted = x.astype(np.float16).ravel() + np.arange(9).astype(np.float16)
    assert set(found.ravel()) == set(wanted.astype(np.float32))


def obstacle(kind: str) -> onnx.ModelProto:
    if kind == "If":
        branch = x_to_y([helper.make_node("Neg", ["x"], ["y"])], [1]).graph
        del branch.input[:]
        node = helper.make_node("If", ["yes"], ["y"], "If_0", then_branch=branch, else_branch=branch)
        return x_to_y([node], [1], yes=np.array(True))
    if kind == "float16":
        casts = [("x", "h", TensorProto.FLOAT16), ("h", "y", TensorProto.FLOAT)]
        return x_to_y([helper.make_node("Cast", [a], [b], f"to_{b}", to=to) for a, b, to in casts], [1])
    nodes = [helper.make_node("Odd", ["x"], ["z"], "Odd_0", domain="own"), helper.make_node("Neg", ["z"], ["y"])]
    model = x_to_y(nodes, [1])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("If", "fp16 for If [If_0], which contains a graph"),
        ("float16", "fp16 for a model that already contains float16"),
        ("unknown", "fp16 for Odd [Odd_0]: the type of z is unknown"),
    ],
)
def test_models_that_cannot_be_rounded_are_rejected(kind: str, what: str) -> None:
    with pytest.raises(ValueError) as caught:
        half.to_half(obstacle(kind))
    assert str(caught.value) == what


def test_an_onnxruntime_that_drops_the_casts_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime 1.16 does; here `to_half` is replaced by a function that returns the graph without casts."""
    monkeypatch.setattr(half, "to_half", lambda model: model)
    with pytest.raises(main.AtcError) as caught:
        compiled(tmp_path, classifier())
    assert f"fp16 with onnxruntime {onnxruntime.__version__}, which removes the casts: " in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()
    assert compiled(tmp_path, classifier(), precision_mode="force_fp32").is_file()


def test_the_emulator_rejects_a_model_that_cannot_be_rounded(tmp_path: Path) -> None:
    with pytest.raises(main.AtcError) as caught:
        compiled(tmp_path, obstacle("float16"))
    assert str(caught.value) == (
        "E10055: The operation is not supported. Reason: The emulator of atc does not support fp16 for a model that "
        "already contains float16: give --precision_mode=force_fp32 (PRECISION=fp32), or run atc itself."
    )
    assert not (tmp_path / "out.onnx").exists()
