"""Layers that stay in float read and write values that are not rounded; if all layers stay in float, the model is
float32."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from amct.amct_rules import LAYERS
from amct.emulator import main, quantizer
from tests.amct.calls import command_line
from tests.support.onnx_models import classifier, model_of, results
from tests.support.random_graphs import graphs, image

DEPLOY = Path("out/m_deploy_model.onnx")


def quantized(model: onnx.ModelProto, values: np.ndarray, skipped: Collection[str]) -> onnx.ModelProto:
    prepared = quantizer.prepare(model)
    histograms = quantizer.collect(prepared, lambda: iter([values]))
    return quantizer.quantize(prepared, histograms, "minmax", skipped)


def computed(model: onnx.ModelProto, values: np.ndarray) -> np.ndarray:
    return results(model.SerializeToString(), values, "ORT_DISABLE_ALL")


def chain() -> onnx.ModelProto:
    """image -> /a -> ReLU -> /b -> ReLU -> /c, convolutions of 1 x 1."""
    random = np.random.default_rng(0)
    stored = {name: random.standard_normal((3, 3, 1, 1)).astype(np.float32) for name in ("wa", "wb", "wc")}
    nodes = [
        helper.make_node("Conv", ["image", "wa"], ["ca"], "/a"),
        helper.make_node("Relu", ["ca"], ["ra"], "/ra"),
        helper.make_node("Conv", ["ra", "wb"], ["cb"], "/b"),
        helper.make_node("Relu", ["cb"], ["rb"], "/rb"),
        helper.make_node("Conv", ["rb", "wc"], ["out"], "/c"),
    ]
    return model_of(nodes, {"image": [1, 3, 4, 4]}, {"out": [1, 3, 4, 4]}, 13, **stored)


def test_a_skipped_layer_reads_and_writes_float() -> None:
    model = quantized(chain(), image(), {"/b"})
    made = {name: node for node in model.graph.node for name in node.output}
    (layer,) = (node for node in model.graph.node if node.name == "/b")
    assert layer.input[1] == "wb" and made[layer.input[0]].op_type == "Relu", "not rounded"
    assert made[made[layer.input[0]].input[0]].op_type == "Conv", (
        "the result of the layer before it is not rounded either"
    )
    (after,) = (node for node in model.graph.node if layer.output[0] in node.input)
    assert after.op_type == "Relu"
    (rounding,) = (node for node in model.graph.node if after.output[0] in node.input)
    assert rounding.op_type == "QuantizeLinear", "the next layer is quantized"
    (last,) = (node for node in model.graph.node if node.name == "/c")
    assert {made[name].op_type for name in last.input} == {"DequantizeLinear"}, "also the corrected bias"


def test_an_input_that_is_also_read_by_a_quantized_layer() -> None:
    """/b and /d read the same ReLU; only /d reads it rounded."""
    model = chain()
    model.graph.node.append(helper.make_node("Conv", ["ra", "wc"], ["d"], "/d"))
    model.graph.output.append(helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, [1, 3, 4, 4]))
    found = quantized(model, image(), {"/b"})
    inputs = {node.name: node.input[0] for node in found.graph.node if node.op_type == "Conv"}
    made = {name: node for node in found.graph.node for name in node.output}
    assert (made[inputs["/b"]].op_type, made[inputs["/d"]].op_type) == ("Relu", "DequantizeLinear")


def test_a_relu_that_became_part_of_the_rounding_is_not_bypassed() -> None:
    """The Add after the skipped /b reads the ReLU `ra`, which became part of the rounding of /a's result. So it must
    read the rounded value, not /a's result."""
    model = chain()
    model.graph.node[3].CopyFrom(helper.make_node("Add", ["cb", "ra"], ["rb"], "/add"))
    found = quantized(model, image(), {"/b"})
    exact = computed(model, image())
    assert np.abs(computed(found, image()) - exact).max() < 0.05 * np.abs(exact).max()


@given(graphs(), st.data())
def test_any_skipped_layers_give_a_model_that_runs(model: onnx.ModelProto, data: st.DataObject) -> None:
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS]
    skipped = data.draw(st.sets(st.sampled_from(layers)))
    found, exact = (computed(each, image()) for each in (quantized(model, image(), skipped), model))
    assert found.shape == exact.shape and np.isfinite(found).all()
    assert np.abs(found - exact).max() <= 0.25 * np.abs(exact).max() + 0.25


@given(graphs(), st.sampled_from(["all operators", "all layers"]))
def test_all_operators_in_float_equal_float32(model: onnx.ModelProto, kept: str) -> None:
    """amct.quantize passes only layers to skip_layers, so the same must be true for all layers."""
    every = kept == "all operators"
    found = quantized(model, image(), {node.name for node in model.graph.node if every or node.op_type in LAYERS})
    np.testing.assert_allclose(computed(found, image()), computed(model, image()), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("here")
def test_skip_layers_of_all_layers() -> None:
    """The emulator accepts the file, and quantizes nothing."""
    Path("keep.cfg").write_text("".join(f'skip_layers: "{node.name}"\n' for node in classifier().graph.node))
    assert main.main(command_line(calibration_config="keep.cfg")) == 0
    assert not any(node.op_type == "QuantizeLinear" for node in onnx.load(DEPLOY).graph.node)
    values = np.fromfile("batches/batch_00000.bin", np.float32).reshape(4, 3, 16, 16)
    np.testing.assert_allclose(results(DEPLOY, values), results(Path("model.onnx"), values), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("here")
def test_a_method_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(command_line(method="entropy")) == 0
    metadata = {entry.key: entry.value for entry in onnx.load(DEPLOY).metadata_props}
    assert metadata["amct.method"] == "entropy" and "amct.error_minmax" not in metadata
    with pytest.raises(SystemExit):
        main.main(command_line(method="median"))
    assert "median" in capsys.readouterr().err
