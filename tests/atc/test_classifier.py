"""atc/classifier.py: what is read from an ONNX file, the completed config, and files that are rejected because they are
not an image classifier."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from atc import classifier as script
from atc.classifier import Classifier, complete, inspect, read
from hrnet.cli import UserError
from hrnet.config import load_config
from hrnet.schemas import ONNX
from tests.support.onnx_models import CLASSES, classifier, model_of, padded, pyramid, saved

CONFIG = "MODEL: {NAME: onnx}\nINPUT: {MEAN: [0.5, 0.5, 0.5], STD: [0.25, 0.5, 0.5]}\n"


def found_in(folder: Path, model: onnx.ModelProto, size: Optional[list[int]] = None) -> Classifier:
    path = saved(folder, model)
    return inspect(read(path), path, size or [])


def error_of(folder: Path, model: onnx.ModelProto, size: Optional[list[int]] = None) -> UserError:
    with pytest.raises(UserError) as caught:
        found_in(folder, model, size)
    assert str(caught.value.where).endswith("model.onnx")
    return caught.value


def with_end(*nodes: onnx.NodeProto, dtype: int = TensorProto.FLOAT, **stored: np.ndarray) -> onnx.ModelProto:
    """The classifier with `nodes` after its output `class`; the last node has the output `end`, of undeclared shape."""
    model = classifier()
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in stored.items())
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("end", dtype, None))
    return model


def test_dynamic_and_fixed_batch_sizes_are_read(tmp_path: Path) -> None:
    assert found_in(tmp_path, classifier()) == Classifier("image", -1, [16, 16], "class", CLASSES)
    model = classifier("x")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert found_in(tmp_path, model) == Classifier("x", 4, [16, 16], "class", CLASSES)


def test_the_size_is_width_then_height(tmp_path: Path) -> None:
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 24
    assert found_in(tmp_path, model).size == [24, 16]


def test_a_dynamic_size_needs_the_config(tmp_path: Path) -> None:
    assert found_in(tmp_path, classifier(size="side"), [24, 16]).size == [24, 16]
    error = error_of(tmp_path, classifier(size="side"))
    assert "height and width of image" in error.what and "MODEL.IMAGE_SIZE" in str(error.hint)
    error = error_of(tmp_path, classifier(), [24, 16])
    assert (error.expected, error.found) == ([16, 16], [24, 16])


def test_outputs_of_undeclared_shape_and_with_axes_of_1(tmp_path: Path) -> None:
    shape = np.array([-1, CLASSES, 1, 1])
    reshaped = with_end(helper.make_node("Reshape", ["class", "shape"], ["end"]), shape=shape)
    assert found_in(tmp_path, reshaped).outputs == CLASSES
    computed = [helper.make_node("Shape", ["class"], ["s"]), helper.make_node("Reshape", ["class", "s"], ["end"])]
    assert found_in(tmp_path, with_end(*computed)).outputs == CLASSES


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (pyramid(2), "output sum has no scores of classes"),
        (padded(16), "output what has no scores of classes"),
        (
            with_end(helper.make_node("ArgMax", ["class"], ["end"], axis=1), dtype=TensorProto.INT64),
            "output end is int64",
        ),
        (with_end(helper.make_node("ReduceMax", ["class"], ["end"], axes=[0])), "output end has no scores of classes"),
    ],
    ids=["maps", "images", "ArgMax", "no batch axis"],
)
def test_outputs_that_are_not_scores(model: onnx.ModelProto, what: str, tmp_path: Path) -> None:
    error = error_of(tmp_path, model, [16, 16])
    assert error.what == what
    assert "classes]" in str(error.expected)


def test_several_inputs_and_outputs_are_named(tmp_path: Path) -> None:
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 4]))
    error = error_of(tmp_path, model)
    assert "several inputs" in error.what and error.found == "image float32[-1, 3, 16, 16], mask float32[1, 4]"
    model = classifier()
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 8]))
    error = error_of(tmp_path, model)
    assert error.found == "class float32[-1, 10], f float32[-1, 8]"
    assert str(error.hint).endswith(f'("{tmp_path}/model.onnx", "one.onnx", ["image"], ["class"])')


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        (["n", 16, 16, 3], TensorProto.FLOAT, "input image is NHWC, the layout of TensorFlow"),
        (["n", 3, 16, 16], TensorProto.UINT8, "input image is uint8"),
        (["n", 16, 16, 3], TensorProto.UINT8, "input image is uint8"),
        (["n", 12], TensorProto.INT64, "input image is int64"),
        (["n", 3, 16, 16], TensorProto.FLOAT16, "input image is float16"),
        (["n", 1, 16, 16], TensorProto.FLOAT, "input image is not an image"),
        (None, TensorProto.FLOAT, "input image is not an image"),
    ],
)
def test_other_inputs(shape: Any, dtype: int, what: str, tmp_path: Path) -> None:
    model = classifier()
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("image", dtype, shape))
    error = error_of(tmp_path, model)
    assert error.what == what and error.expected == "one input float32 [N, 3, H, W]"
    assert ("--inputs-as-nchw image" in str(error.hint)) == ("NHWC" in what)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "Git LFS"),
        (base64.b64decode("UEsDBBQ="), "a damaged zip archive"),
        (b"\x08\x07\x12\x04nope", "a damaged or truncated ONNX file (found 8 bytes); copy or download it again"),
        (classifier().SerializeToString()[:500], "a damaged or truncated ONNX file (found 500 bytes)"),
        (b"\x89PNG\r\n\x1a\n", "give ONNX=<file>"),
    ],
)
def test_files_that_are_not_onnx(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="ONNX file") as caught:
        read(path)
    assert found in str(caught.value)
    with pytest.raises(UserError, match="no such ONNX file"):
        read(tmp_path / "none.onnx")


def test_external_data_is_followed_or_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert inspect(read(path), path, []).outputs == CLASSES
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UserError, match="the separate file with its weights is missing") as caught:
        read(path)
    assert caught.value.expected == f"{tmp_path}/weights.bin" and caught.value.found is None


def completed(folder: Path, text: str = CONFIG) -> dict[str, Any]:
    (folder / "mine.yaml").write_text(text)
    arguments = ["--cfg", f"{folder}/mine.yaml", "--model", f"{folder}/model.onnx", "--output", f"{folder}/b/mine.yaml"]
    assert script.main(arguments) == 0
    content: dict[str, Any] = yaml.safe_load((folder / "b/mine.yaml").read_text())
    config = load_config(folder / "b/mine.yaml", ONNX)
    assert config.INPUT.RESIZE == content["INPUT"]["RESIZE"]
    return content


def test_the_completed_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, classifier())
    content = completed(tmp_path)
    assert content["MODEL"] == {"NAME": "onnx", "NUM_CLASSES": CLASSES, "IMAGE_SIZE": [16, 16]}
    inputs = content["INPUT"]
    assert (inputs["MEAN"], inputs["STD"], inputs["RESIZE"]) == ([0.5, 0.5, 0.5], [0.25, 0.5, 0.5], 18)
    assert "16 x 16 pixels, any batch; output class, 10 classes" in capsys.readouterr().out
    again = (tmp_path / "b/mine.yaml").read_bytes()
    completed(tmp_path)
    assert (tmp_path / "b/mine.yaml").read_bytes() == again


def test_values_of_the_config_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, classifier(size="side"))
    text = "MODEL: {NAME: onnx, IMAGE_SIZE: [24, 16], NUM_CLASSES: 9}\nINPUT: {RESIZE: 32}\n"
    text += "REFERENCE: {TOP1: 70, IMAGES: 9}\n"
    content = completed(tmp_path, text)
    assert content["MODEL"] == {"NAME": "onnx", "NUM_CLASSES": 9, "IMAGE_SIZE": [24, 16]}, (
        "9 classes for 10 outputs: the first output is a background class"
    )
    assert content["INPUT"]["RESIZE"] == 32 and content["REFERENCE"]["TOP1"] == 70


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "MODEL: {NAME: onnx, NUM_CLASSES: 1000}",
            ("MODEL.NUM_CLASSES", "10 as the file's outputs", "found 1000", "write NUM_CLASSES: 10 or 9"),
        ),
        ("MODEL: {NAME: onnx, IMAGE_SIZE: [32, 32]}", ("differs from the ONNX file's", "[16, 16]", "[32, 32]")),
        (
            "MODEL: {NAME: onnx}\nINPUT: {RESIZE: 15}",
            ("INPUT.RESIZE", "at least", "15", "raise it", "INPUT.RESIZE: 18"),
        ),
        ("MODEL: {NAME: onnx}\nINPUT: {RESIZER: CV2}", ("INPUT.RESIZER", "did you mean cv2?")),
        ("MODEL: {NAME: onnx}\nINPUT: {INTERPOLATION: cubic}", ("INPUT.INTERPOLATION", "bilinear or bicubic")),
        ("MODEL: {NAME: onnx, EXTRA: {}}", ("unknown key MODEL.EXTRA",)),
        ("MODEL: {NAME: onnx, IMAGE_SIZE: [16]}", ("MODEL.IMAGE_SIZE", "[16]")),
        ("MODEL: {NUM_CLASSES: 10}", ("MODEL.NAME", "expected onnx", "cls_hrnet")),
    ],
)
def test_configs_that_do_not_fit(
    text: str, parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, classifier())
    (tmp_path / "mine.yaml").write_text(text)
    arguments = [
        "--cfg",
        f"{tmp_path}/mine.yaml",
        "--model",
        f"{tmp_path}/model.onnx",
        "--output",
        f"{tmp_path}/o.yaml",
    ]
    assert script.main(arguments) == 2
    line = capsys.readouterr().err
    assert all(part in line for part in ("mine.yaml" if "differs" not in line else "model.onnx", *parts)), line
    assert not (tmp_path / "o.yaml").exists() and line.count("\n") == 1


def test_a_file_of_make_onnx_names_its_own_config(tmp_path: Path) -> None:
    model = classifier()
    helper.set_model_props(model, {"model": "hrnet_w18", "config_sha256": "ab"})
    path = saved(tmp_path, model)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "mine.yaml", ONNX, complete=False)
    with pytest.raises(UserError, match="MODEL=hrnet_w18 and ONNX="):
        complete(config, "mine.yaml", path)
    assert inspect(read(path), path, []).outputs == CLASSES, "it is a classifier: REFERENCE=onnx can measure it"


def test_stages_ask_for_the_completed_config(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    with pytest.raises(UserError, match="incomplete config of an ONNX classifier") as caught:
        load_config(tmp_path / "mine.yaml")
    assert f"{sys.executable} -m atc.classifier" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("nodes", "probabilities"),
    [
        ([helper.make_node("Softmax", ["class"], ["end"])], True),
        ([helper.make_node("Softmax", ["class"], ["p"]), helper.make_node("Flatten", ["p"], ["end"])], True),
        ([helper.make_node("Relu", ["class"], ["end"])], False),
    ],
)
def test_outputs_that_are_probabilities(nodes: list[onnx.NodeProto], probabilities: bool) -> None:
    metadata = script.graph.metadata_of(with_end(*nodes))
    assert metadata.get("output") == ("probabilities" if probabilities else None)


def test_a_model_without_inputs(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Constant", [], ["c"], value_float=1.0)], {}, {"c": []}, opset=13)
    assert error_of(tmp_path, model).what == "the model has no input"
