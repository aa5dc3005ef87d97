"""Operators that --keep_dtype keeps in float32: what they read and write, compared with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from atc.emulator import main
from atc.emulator.half import CUBE, to_half
from tests.support.onnx_models import classifier, images, model_of, results, saved
from tests.support.random_graphs import graphs, image


def computed(model: onnx.ModelProto, values: np.ndarray) -> np.ndarray:
    return results(model.SerializeToString(), values, "ORT_DISABLE_ALL")


def rounded(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def chain() -> onnx.ModelProto:
    """x -> times 300.1 -> squared -> root -> ReLU -> plus 0.1."""
    nodes = [
        helper.make_node("Mul", ["image", "factor"], ["a"], "scale"),
        helper.make_node("Mul", ["a", "a"], ["b"], "square"),
        helper.make_node("Sqrt", ["b"], ["c"], "root"),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("Add", ["d", "tenth"], ["out"], "plus"),
    ]
    stored = {"factor": np.array(300.1, np.float32), "tenth": np.array(0.1, np.float32)}
    return model_of(nodes, {"image": ["n", 3]}, {"out": ["n", 3]}, **stored)


X = np.array([[0.1001, 1.0001, 2.0001]], np.float32)


def test_the_values_of_each_operator() -> None:
    """`square` overflows unless it and its reader are kept; weights of kept operators are not rounded."""
    scaled = rounded(rounded(X) * rounded(np.float32(300.1)))
    expected = {
        (): rounded(rounded(np.sqrt(rounded(scaled * scaled))) + rounded(np.float32(0.1))),
        ("square",): rounded(rounded(np.sqrt(rounded(scaled * scaled))) + rounded(np.float32(0.1))),
        ("square", "root"): rounded(rounded(scaled) + rounded(np.float32(0.1))),
        ("scale", "square", "root"): rounded(rounded(X * np.float32(300.1)) + rounded(np.float32(0.1))),
        ("scale", "square", "root", "relu", "plus"): X * np.float32(300.1) + np.float32(0.1),
    }
    for kept, values in expected.items():
        np.testing.assert_allclose(computed(to_half(chain(), set(kept)), X), values, rtol=1e-6, err_msg=str(kept))
    assert np.isinf(expected[("square",)]).any() and np.isfinite(expected[("square", "root")]).all()


def test_a_kept_convolution_reads_float16_and_writes_float32() -> None:
    random = np.random.default_rng(0)
    kernel = random.standard_normal((2, 3, 1, 1)).astype(np.float32)
    node = helper.make_node("Conv", ["image", "kernel"], ["out"], "conv")
    model = model_of([node], {"image": [1, 3, 4, 4]}, {"out": [1, 2, 4, 4]}, kernel=kernel)
    values = random.standard_normal((1, 3, 4, 4)).astype(np.float32)
    exact = np.einsum("nchw,oc->nohw", rounded(values).astype(np.float64), rounded(kernel)[:, :, 0, 0])
    np.testing.assert_allclose(computed(to_half(model, {"conv"}), values), exact, rtol=1e-6, atol=1e-6)
    assert (computed(to_half(model), values) == rounded(exact.astype(np.float32))).mean() > 0.9
    large = np.full((1, 3, 4, 4), 1e5, np.float32)
    assert not np.isfinite(computed(to_half(model, {"conv"}), large)).any(), "its input overflows"


def test_weights_of_two_readers() -> None:
    """Only the kept operator reads the weight that is not rounded."""
    nodes = [helper.make_node("Mul", ["image", "w"], [name], name) for name in ("a", "b")]
    nodes.append(helper.make_node("Concat", ["a", "b"], ["out"], "both", axis=1))
    model = model_of(nodes, {"image": [1, 1]}, {"out": [1, 2]}, w=np.array(0.1, np.float32))
    found = computed(to_half(model, {"a", "both"}), np.ones((1, 1), np.float32))
    assert found.tolist() == [[np.float32(0.1), rounded(np.float32(0.1))]]


@given(graphs())
@settings(max_examples=40)
def test_with_all_operators_kept_only_convolutions_differ(model: onnx.ModelProto) -> None:
    """Only the inputs and weights of convolutions are rounded."""
    names = {node.name for node in model.graph.node}
    expected = onnx.ModelProto()
    expected.CopyFrom(model)
    del expected.graph.node[:]
    stored = {tensor.name: tensor for tensor in expected.graph.initializer}
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.op_type in CUBE:
            half_name, name = f"{node.output[0]}_h", f"{node.output[0]}_r"
            expected.graph.node.append(helper.make_node("Cast", [node.input[0]], [half_name], to=10))
            expected.graph.node.append(helper.make_node("Cast", [half_name], [name], to=1))
            weights = stored[node.input[1]]
            weights.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(weights)), weights.name))
            node.input[0] = name
        expected.graph.node.append(node)
    found = computed(to_half(model, names), image())
    np.testing.assert_allclose(found, computed(expected, image()), rtol=1e-5, atol=1e-5)


@given(graphs(), st.integers(0, 1))
@settings(max_examples=40)
def test_a_model_without_convolutions_equals_float32_if_all_operators_are_kept(model: onnx.ModelProto, at: int) -> None:
    """Equal to the bit."""
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.op_type = ("Relu", "Tanh")[at]
            del node.input[1:], node.attribute[:]
    names = {node.name for node in model.graph.node}
    assert np.array_equal(computed(to_half(model, names), image()), computed(model, image()))


def call(folder: Path, names: str, *more: str) -> list[str]:
    saved(folder, classifier())
    (folder / "keep.txt").write_text(names)
    common = ["--framework=5", f"--model={folder}/model.onnx", f"--output={folder}/m", "--soc_version=Ascend310P3"]
    return [*common, "--input_format=NCHW", "--input_shape=image:1,3,16,16", f"--keep_dtype={folder}/keep.txt", *more]


def test_the_emulator_reads_the_list(tmp_path: Path) -> None:
    outputs = {}
    for names in ("Gemm_4", "OpType::GlobalAveragePool", ""):
        assert main.main(call(tmp_path, names, "--precision_mode=force_fp16")) == 0
        outputs[names] = results(tmp_path / "m.onnx", images(1))
    assert np.array_equal(outputs["OpType::GlobalAveragePool"], outputs[""]), (
        "the operator that reads the pool's output rounds it"
    )
    assert np.array_equal(outputs[""], rounded(outputs[""])) and not np.array_equal(
        outputs["Gemm_4"], rounded(outputs["Gemm_4"])
    )
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert metadata["atc.keep_dtype"] == "keep.txt"


@pytest.mark.parametrize("mode", ["--precision_mode=must_keep_origin_dtype", "--log=error"])
def test_without_float16_the_list_has_no_effect(mode: str, tmp_path: Path) -> None:
    assert main.main(call(tmp_path, "Gemm_4", mode)) == 0
    assert np.allclose(results(tmp_path / "m.onnx", images(1)), results(tmp_path / "model.onnx", images(1)), atol=1e-6)


def test_an_unknown_operator_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(call(tmp_path, "Gemm_9", "--precision_mode=force_fp16")) == 255
    out = capsys.readouterr().out
    assert "E10001: Value" in out and "--keep_dtype" in out and "Gemm_9" in out
    missing = [word for word in call(tmp_path, "") if "keep_dtype" not in word]
    assert main.main([*missing, "--keep_dtype=none.txt"]) == 255
    assert "none.txt" in capsys.readouterr().out
