"""atc/pixels.py: the outputs for pixels equal those for normalised images, also after `convert`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atc import convert, pixels
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from tests.atc.calls import arguments
from tests.support import tiny
from tests.support.onnx_models import classifier, pyramid, results, saved

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (1, height, width, 3), np.uint8)


def normalised(pixels: np.ndarray) -> np.ndarray:
    scaled = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


@pytest.mark.parametrize("height, width", [(16, 16), (32, 16), (16, 64)])
def test_outputs_equal_those_of_normalised_images(height: int, width: int) -> None:
    model = pyramid(2)
    expected = results(model.SerializeToString(), normalised(image(height, width)))
    pixels.accept_pixels(model, MEAN, STD)
    onnx.checker.check_model(model, full_check=True)
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert (model.graph.input[0].name, shape) == ("image", ["batch", "h", "w", 3])
    found = results(model.SerializeToString(), image(height, width))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_for_a_fixed_width_the_constants_have_a_value_for_each_column() -> None:
    model = pyramid(2)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64
    pixels.accept_pixels(model, MEAN, STD)
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer if tensor.name.startswith("image_pixels")}
    assert shapes == {"image_pixels_min": [3, 1, 64], "image_pixels_var_reci": [3, 1, 64]}


def test_new_names_avoid_names_in_use() -> None:
    model = pyramid(2)
    for node in model.graph.node:
        node.output[:] = [name.replace("up", "image_pixels_planes") for name in node.output]
        node.input[:] = [name.replace("up", "image_pixels_planes") for name in node.input]
    pixels.accept_pixels(model, MEAN, STD)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.node[0].output[0] == "image_pixels___planes"


def test_an_input_of_another_shape_is_rejected() -> None:
    model = pyramid(2)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(ValueError, match=r"input float32\[N, 3, H, W\], found image float16\[-1, 3, -1, -1\]"):
        pixels.accept_pixels(model, MEAN, STD)
    model = pyramid(2)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ValueError, match=r"found image float32.*, mask float32"):
        pixels.accept_pixels(model, MEAN, STD)


def call(here: Path, model: onnx.ModelProto, *more: str) -> int:
    saved(here, model)
    cfg = str(tiny.write_pose_config(here))
    return convert.main(arguments("om/a.onnx", "--batch_size", "1", "--input_dtype", "uint8", "--cfg", cfg, *more))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_pixel_model_has_the_gears_of_the_config(here: Path, precision: str) -> None:
    assert call(here, pyramid(2), "--precision", precision) == 0
    record = CompiledModel.read("om/a.onnx")
    assert "--model=om/a.pixels.onnx" in record.command and "--input_shape=image:1,-1,-1,3" in record.command
    assert record.inputs == [TensorInfo("image", "uint8", [1, -1, -1, 3])]
    assert record.gears == [Gear([1, height, width, 3], [[1, 8, height, width]]) for height, width in tiny.GEARS]
    assert record.accepts([96, 64, 3]) and not record.accepts([3, 96, 64])
    expected = results(Path("model.onnx"), normalised(image(96, 64)))
    found = results(Path("om/a.onnx"), image(96, 64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if precision == "fp32" else 0.05)


def test_another_number_of_channels_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier(size="side")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    assert call(here, model) == 2
    line = capsys.readouterr().err
    assert "model.onnx: --input_dtype uint8: " in line and "found image float32[-1, 4, -1, -1]" in line
