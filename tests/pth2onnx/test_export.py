"""pth2onnx/export.py: the checks of an exported graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hrnet.cli import WorkFailed
from hrnet.config import load_config
from hrnet.nets import classification as nets
from pth2onnx import classification, export
from tests.support import tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    net = nets.build(load_config(tiny.write_config(folder))).eval()
    image = np.zeros((1, 3, tiny.SIDE, tiny.SIDE), np.float32)
    return export.trace_onnx(net, classification.INTERFACE, image, 11, folder / "model.onnx")


@pytest.fixture
def model(exported):
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    return copy


def error_of(model) -> WorkFailed:
    with pytest.raises(WorkFailed) as caught:
        export.check_graph(model, classification.INTERFACE, 11)
    return caught.value


def test_another_opset_and_unknown_operators_are_rejected(model):
    model.opset_import[0].version = 12
    assert error_of(model).found == {"ai.onnx": 12}
    model.opset_import[0].version = 11
    model.graph.node.append(onnx.helper.make_node("Shape", ["class"], ["s"]))
    assert error_of(model).found == "Shape"


def test_other_names_of_inputs_and_outputs_are_rejected(model):
    model.graph.output[0].name = "logits"
    next(node for node in model.graph.node if node.op_type == "Gemm").output[0] = "logits"
    assert (error_of(model).expected, error_of(model).found) == (["image", "class"], ["image", "logits"])


def test_a_resize_with_computed_scales_is_rejected(model):
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    resize.input[2] = model.graph.node[0].output[0]
    assert error_of(model).found == resize.name and "constant" in error_of(model).what


@pytest.mark.parametrize("stored", ["Constant", "initializer"])
def test_a_resize_by_a_fractional_factor_is_rejected(model, stored):
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 1.5, 2], np.float32), "broken")
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    resize.input[2] = "broken"
    if stored == "Constant":
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["broken"], value=scales))
    else:
        model.graph.initializer.append(scales)
    assert error_of(model).found == resize.name and "not an integer" in error_of(model).what


def test_a_torch_without_the_newer_exporter_is_accepted(monkeypatch):
    """torch 2.1: torch.onnx.export has no `dynamo`."""
    assert export.tracing_exporter_option() == {"dynamo": False}

    def older(model, args, f, *, input_names, output_names, dynamic_axes, opset_version):
        return None

    monkeypatch.setattr(export.torch.onnx, "export", older)
    assert export.tracing_exporter_option() == {}
