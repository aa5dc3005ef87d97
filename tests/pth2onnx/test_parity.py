"""pth2onnx/parity.py: its figures, calculated by hand, and its errors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hrnet.cli import WorkFailed
from pth2onnx import parity
from tests.support.onnx_models import model_of


def scale_model(path, factor: float):
    """ONNX file that multiplies its input by one number."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    model = model_of(nodes, {"x": ["n", 3]}, {"y": None}, factor=np.float32(factor).reshape(()))
    onnx.save(model, path)
    return path


INPUTS = [np.array([[1, 2, 4]], np.float32), np.array([[8, 0, 0], [0, -3, 0]], np.float32)]


@pytest.mark.parametrize(("factor", "largest"), [(2, 16), (0, parity.MIN_SCALE)])
def test_equal_models_have_parity(tmp_path, factor, largest):
    """Outputs that are all zeros are equal too."""
    result = parity.check_parity(lambda x: x * factor, scale_model(tmp_path / "m.onnx", factor), INPUTS)
    assert result == parity.Parity(0.0, 1.0, pytest.approx(parity.TOLERANCE * largest), [[1, 3], [2, 3]])


def error_of(net, model, inputs=INPUTS) -> WorkFailed:
    with pytest.raises(WorkFailed) as caught:
        parity.check_parity(net, model, inputs)
    return caught.value


def test_the_tolerance_follows_the_largest_value(tmp_path):
    model = scale_model(tmp_path / "m.onnx", 1 + parity.TOLERANCE / 2)
    for scale in (1e-1, 8, 1e15):
        inputs = [np.full((2, 3), scale, np.float32)]
        result = parity.check_parity(lambda x: x, model, inputs)
        assert result.max_abs_difference == pytest.approx(scale * parity.TOLERANCE / 2, rel=0.01)
        assert result.tolerance == pytest.approx(scale * parity.TOLERANCE)
    error = error_of(lambda x: x, scale_model(tmp_path / "m.onnx", 1 + parity.TOLERANCE * 2), INPUTS[1:])
    assert error.found in ("1.60e-03, cosine 1.000000", "6.00e-04, cosine 1.000000")


def test_values_near_zero_may_be_rounded_but_not_wrong(tmp_path):
    rounded = [np.full((1, 3), 1e-5, np.float32)]
    result = parity.check_parity(lambda x: x, scale_model(tmp_path / "m.onnx", 1.05), rounded)
    assert result.tolerance == pytest.approx(parity.TOLERANCE * parity.MIN_SCALE)
    wrong = [np.full((1, 3), 1e-3, np.float32)]
    assert error_of(lambda x: x, scale_model(tmp_path / "m.onnx", 1.05), wrong).found == "5.00e-05, cosine 1.000000"


def test_each_image_has_its_own_scale(tmp_path):
    """One image with large values does not hide that another one is wrong."""
    model = scale_model(tmp_path / "m.onnx", 1)
    wrong = torch.tensor([[0.0], [0.01]])
    error = error_of(lambda x: x + wrong, model, [np.array([[1000, 1, 2], [1, 2, 3]], np.float32)])
    assert error.found.startswith("1.00e-02, ") and "3.01e-04" in error.expected


def test_outputs_of_absurd_size_are_rejected(tmp_path):
    """If a bit in the weights is flipped, PyTorch and the ONNX file still agree (to a relative difference of 1e-6), but
    their values are meaningless."""
    inputs = [np.array([[1, 2, 3]], np.float32)]
    error = error_of(lambda x: x * 1e30, scale_model(tmp_path / "m.onnx", 1e30), inputs)
    assert error.found == "3e+30" and "checkpoint" in error.hint


def test_other_shapes_and_values_that_are_not_finite_are_rejected(tmp_path):
    model = scale_model(tmp_path / "m.onnx", 1)
    error = error_of(lambda x: x.sum(dim=1), model)
    assert (error.expected, error.found) == ([[1]], [[1, 3]])
    error = error_of(lambda x: [x, x], model)
    assert (error.expected, error.found) == ([[1, 3], [1, 3]], [[1, 3]])
    assert "NaN" in error_of(lambda x: x * float("nan"), model).what
    assert "NaN" in error_of(lambda x: x, scale_model(tmp_path / "m.onnx", float("nan"))).what
    assert "infinite" in error_of(lambda x: x / 0, model, [np.ones((1, 3), np.float32)]).what


def test_the_output_nearest_to_its_tolerance_is_reported(tmp_path):
    model = onnx.load(scale_model(tmp_path / "m.onnx", 1.00002))
    model.graph.node.append(helper.make_node("Mul", ["y", "hundred"], ["z"]))
    model.graph.initializer.append(helper.make_tensor("hundred", TensorProto.FLOAT, [], [100]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "m.onnx")
    eight = [np.array([[8, 0, 0]], np.float32)]
    result = parity.check_parity(lambda x: [x, x * 100.002], tmp_path / "m.onnx", eight)
    assert result.tolerance == pytest.approx(parity.TOLERANCE * 8), (
        "of the first output, though the values of the second are larger"
    )
    assert result.max_abs_difference == pytest.approx(8 * 2e-5, rel=0.05)
    error = error_of(lambda x: [x, x * 100.9], tmp_path / "m.onnx", eight)
    assert "8.07e-02" in error.expected and error.found.startswith("7.18e+00, ")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("expected", "found", "figures"),
    [
        ([[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [2.0, 2.0]], ([0.0, 2.0], [1.0, pytest.approx(np.sqrt(0.5))])),
        ([[0.0, 0.0]], [[0.0, 0.0]], ([0.0], [1.0])),
        ([[0.0, 0.0]], [[3.0, 4.0]], ([4.0], [0.0])),
        ([[3.0, 4.0]], [[0.0, 0.0]], ([4.0], [0.0])),
        ([[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [-4.0, 3.0]], ([0.0, 7.0], [1.0, 0.0])),
    ],
)
def test_errors_are_computed_for_each_image_and_zeros_have_cosine_1(expected, found, figures):
    differences, cosines = parity.compare(np.array(expected), np.array(found))
    assert (differences.tolist(), cosines.tolist()) == figures


@given(batch=st.integers(1, 3), width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 9))
def test_images_have_the_range_of_normalised_images(batch, width, height, seed):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    images = parity.images_like(batch, (width, height), mean, std, seed)
    assert images.shape == (batch, 3, height, width)
    assert images.dtype == np.float32
    pixels = images * np.reshape(std, (3, 1, 1)) + np.reshape(mean, (3, 1, 1))
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert np.array_equal(images, parity.images_like(batch, (width, height), mean, std, seed))
