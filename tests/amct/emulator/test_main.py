"""The emulator of amct_onnx: rejected arguments and files, its output files, and outputs that agree with float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from amct import amct_rules
from amct.emulator import main
from hrnet.cli import UserError
from tests.amct.calls import batches, command_line
from tests.support.errors import check_error
from tests.support.onnx_models import classifier, results, saved

DEPLOY, FAKE_QUANT = Path("out/m_deploy_model.onnx"), Path("out/m_fake_quant_model.onnx")


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.usefixtures("here")
def test_the_int8_model_agrees_with_float32() -> None:
    assert main.main(command_line()) == 0
    assert DEPLOY.read_bytes() == FAKE_QUANT.read_bytes()
    model = onnx.load(DEPLOY)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["QuantizeLinear"] and counts["DequantizeLinear"]
    assert [node.op_type for node in model.graph.node if "class" in node.output] == ["Gemm"], "logits are not rounded"
    scales = {len(tensor.float_data) or np.prod(tensor.dims) for tensor in model.graph.initializer}
    assert 8 in scales, "one scale for each output channel of the convolution"
    images = np.fromfile("batches/batch_00001.bin", np.float32).reshape(4, 3, 16, 16)
    wanted, found = results(Path("model.onnx"), images), results(DEPLOY, images)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    facts = metadata(DEPLOY)
    assert facts["model"] == "hrnet_w18" and facts["amct.batch_num"] == "2" and facts["amct.save_path"] == "m"
    errors = {name: float(facts[f"amct.error_{name}"]) for name in ("percentile", "entropy", "minmax")}
    assert errors[facts["amct.method"]] == min(errors.values())


@pytest.mark.usefixtures("here")
def test_equal_calls_write_equal_bytes() -> None:
    assert main.main(command_line()) == 0
    first = DEPLOY.read_bytes()
    assert main.main(command_line()) == 0
    assert DEPLOY.read_bytes() == first


@pytest.mark.usefixtures("here")
def test_one_file_is_used_without_batch_num(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(command_line(batch_num="")) == 0
    assert "3 of 4 calibration images" in capsys.readouterr().out and "amct.batch_num" in metadata(DEPLOY)
    assert metadata(DEPLOY)["amct.batch_num"] == "1"


@pytest.mark.parametrize(("images", "batch", "expected"), [(64, 1, 16), (64, 30, 30), (24, 1, 6), (3, 1, 1), (9, 9, 0)])
def test_a_quarter_is_held_back(images: int, batch: int, expected: int) -> None:
    assert amct_rules.held_back(images, batch) == expected


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.usefixtures("here")
def test_each_image_is_used_once(size: int, batch: int) -> None:
    """Two files with 4 images each. The model computes `size` images at a time."""
    whole = main.find_inputs(Path("batches"), [4, 3, 16, 16], 2, whole=False)._replace(size=size)
    calibrating, held = main.hold_back(whole, batch)
    assert (calibrating.images, held.images) == {1: (6, 2), 4: (4, 4)}[batch]
    parts = [each for inputs in (calibrating, held) for each in inputs.read()]
    assert max(map(len, parts)) <= size
    stored = [np.fromfile(path, np.float32).reshape(4, 3, 16, 16) for path in sorted(Path("batches").glob("*.bin"))]
    assert np.array_equal(np.concatenate(parts), np.concatenate(stored))


def test_a_single_batch_is_used_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    saved(here, model)
    assert main.main(command_line(batch_num="1")) == 0
    assert "the same 4 calibration images" in capsys.readouterr().out
    assert main.main([*command_line(batch_num="2"), "--method", "entropy"]) == 0
    assert "entropy (as given); its ranges are from 4 of 8 calibration images" in capsys.readouterr().out


def test_a_space_after_the_equals_sign_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command_line(input_shape="")
    with pytest.raises(SystemExit) as stopped:
        main.main([*words, "--input_shape=", "image:4,3,16,16"])
    assert stopped.value.code == 2 and "unrecognized arguments: image:4,3,16,16" in capsys.readouterr().err
    assert not DEPLOY.exists() and main.main([*words, "--input_shape=image:4,3,16,16"]) == 0


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model": "none.onnx"}, ("none.onnx", "no such model")),
        ({"model": "batches/batch_00000.bin"}, ("not an ONNX file",)),
        ({"input_shape": "images:4,3,16,16"}, ("expected image:N,3,16,16, found images:4,3,16,16",)),
        ({"input_shape": "image:-1,3,16,16"}, ("--input_shape",)),
        ({"input_shape": "image:4,3,16"}, ("--input_shape",)),
        ({"input_shape": "image:4,3,16,32"}, ("--input_shape",)),
        ({"input_shape": "image:8,3,16,16"}, ("not a whole batch", "batch_00000.bin", 8 * 3 * 16 * 16 * 4)),
        ({"data_types": "uint8"}, ("--data_types", "float32")),
        ({"data_dir": "nowhere"}, ("nowhere",)),
        ({"batch_num": "3"}, ("batches", "expected 3", "found 2")),
    ],
)
@pytest.mark.usefixtures("here")
def test_invalid_arguments_are_rejected(
    changes: dict[str, str], parts: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(command_line(**changes)) == 2
    check_error(capsys.readouterr().err, "amct.emulator", *parts)
    assert not DEPLOY.exists()


@pytest.mark.parametrize("opset", [7, 15, 18])
def test_other_opsets_are_rejected(opset: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(here, classifier(opset=opset))
    assert main.main(command_line()) == 2
    check_error(capsys.readouterr().err, "amct.emulator", "opset", "8 to 14", f"found {opset}", "opset_version=11")


@pytest.mark.parametrize("opset", [8, 13, 14])
def test_other_supported_opsets(opset: int, here: Path) -> None:
    saved(here, classifier(opset=opset))
    assert main.main(command_line()) == 0
    assert all(entry.version in (13, 14) for entry in onnx.load(DEPLOY).opset_import if not entry.domain)


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ([onnx.TensorProto.FLOAT16], "image float16"),
        ([onnx.TensorProto.FLOAT, onnx.TensorProto.INT64], "image float32, more int64"),
        ([], "no input"),
    ],
)
def test_other_inputs_are_rejected(kinds: list[int], found: str) -> None:
    """The error shows the dtype too: the name alone does not show what is wrong with a single float16 input."""
    model = classifier()
    del model.graph.input[:]
    model.graph.input.extend(
        helper.make_tensor_value_info(name, kind, ["N", 3, 16, 16]) for name, kind in zip(("image", "more"), kinds)
    )
    with pytest.raises(UserError) as error:
        amct_rules.one_input(model, Path("model.onnx"))
    assert (error.value.expected, error.value.found) == ("one float32 input", found)


def test_a_fixed_batch_size(here: Path) -> None:
    model = classifier()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    saved(here, model)
    assert main.main(command_line()) == 0


def test_skipped_layers_stay_float(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "keep.cfg").write_text('# a comment\nskip_layers: "Conv_0"\nbatch_num: 1\n')
    assert main.main(command_line(calibration_config="keep.cfg")) == 0
    model = onnx.load(DEPLOY)
    stored = {tensor.name for tensor in model.graph.initializer}
    (conv,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert conv.input[1] in stored, "its weights are not dequantized"
    for line, part in (('skip_layers: "Conv_9"', "Conv_9"), ("activation_offset: true", "line 1")):
        (here / "keep.cfg").write_text(line)
        assert main.main(command_line(calibration_config="keep.cfg")) == 2
        check_error(capsys.readouterr().err, "amct.emulator", "keep.cfg", part)


def test_values_that_are_not_finite_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches(here / "batches")
    np.full(4 * 3 * 16 * 16, np.nan, np.float32).tofile("batches/batch_00000.bin")
    assert main.main(command_line()) == 2
    check_error(capsys.readouterr().err, "amct.emulator", "tensor image", "NaN")


def test_a_quantized_model_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(command_line()) == 0
    assert main.main(command_line(model=str(DEPLOY), save_path="again/m")) == 2
    check_error(capsys.readouterr().err, "amct.emulator", DEPLOY, "already quantized", "QuantizeLinear")


def test_a_model_without_layers_to_quantize_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Neg", ["image"], ["class"], "Neg_0"))
    saved(here, model)
    assert main.main(command_line()) == 2
    check_error(capsys.readouterr().err, "amct.emulator", "nothing to quantize")
