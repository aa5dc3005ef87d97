"""The AIPP file: exact bytes, all legal forms when it is read, and one line for each error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc import graph
from atc.atc_command import render_aipp
from atc.emulator import aipp, half, main
from atc.shapes import AtcError
from hrnet.config import load_config
from hrnet.images import normalise, normalise_table
from tests.support.atc_arguments import command_of
from tests.support.onnx_models import classifier, interface, passing, pixels, results, saved

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
IMAGENET = """\
aipp_op {
    aipp_mode: static
    related_input_rank: 0
    input_format: RGB888_U8
    src_image_size_w: 224
    src_image_size_h: 192
    crop: false
    csc_switch: false
    rbuv_swap_switch: false
    min_chn_0: 123.675
    min_chn_1: 116.28
    min_chn_2: 103.53
    var_reci_chn_0: 0.0171247538
    var_reci_chn_1: 0.0175070028
    var_reci_chn_2: 0.0174291939
}
"""
STATIC = "aipp_mode: static input_format: RGB888_U8"


def test_the_aipp_file_has_these_bytes() -> None:
    config = load_config("configs/hrnet_w18.yaml")
    assert (config.INPUT.MEAN, config.INPUT.STD) == (MEAN, STD)
    assert render_aipp(224, 192, config.INPUT.MEAN, config.INPUT.STD) == IMAGENET


def test_a_written_aipp_file_is_read_back() -> None:
    assert aipp.read(IMAGENET) == aipp.Aipp(
        width=224,
        height=192,
        mean=(0.0, 0.0, 0.0),
        min=(123.675, 116.28, 103.53),
        var_reci=(0.0171247538, 0.0175070028, 0.0174291939),
    )


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(1e-3, 1), min_size=3, max_size=3))
def test_any_mean_and_std_are_read_back_to_nine_digits(mean: list[float], std: list[float]) -> None:
    conf = aipp.read(render_aipp(32, 64, mean, std))
    np.testing.assert_allclose(conf.min, 255 * np.array(mean), rtol=1e-8)
    np.testing.assert_allclose(conf.var_reci, 1 / (255 * np.array(std)), rtol=1e-8)


def test_aipp_differs_from_the_formula_by_the_documented_amount() -> None:
    """The figures of docs/decisions/0010-uint8-inputs.md: each pixel value of each channel, compared with
    `(value / 255 - mean) / std`."""
    conf, table = aipp.read(IMAGENET), normalise_table(MEAN, STD)
    pixels = np.arange(256, dtype=np.float32)
    low, factor = (np.float32(values)[:, None] for values in (conf.min, conf.var_reci))
    exact = (np.arange(256) - 255 * np.array(MEAN)[:, None]) / (255 * np.array(STD)[:, None])
    ours = (pixels - low) * factor
    assert np.abs(ours - table).max() < 4.8e-7, "float32"
    assert np.abs(ours - exact).max() < 2.4e-7 < np.abs(table - exact).max() < 3.7e-7
    assert (ours.astype(np.float16) == table.astype(np.float16)).all()
    low, factor = low.astype(np.float16), factor.astype(np.float16)
    halves = ((pixels.astype(np.float16) - low) * factor).astype(np.float32)
    assert 2.8e-3 < np.abs(halves - table).max() < 2.9e-3, "float16 at each step"
    assert 9e-4 < np.abs(table.astype(np.float16) - table).max() < 1e-3, "the table's own rounding to float16"


@pytest.mark.parametrize(
    "text",
    [
        f"aipp_op {{ {STATIC} }}",
        f"aipp_op{{{STATIC}}}",
        f"aipp_op: {{ {STATIC} }}\n\n",
        "# a comment { }\naipp_op {\naipp_mode:static # dynamic\n  input_format :RGB888_U8\n}\n# end",
        "aipp_op {\r\n aipp_mode : static,\r\n input_format : RGB888_U8;\r\n}",
        f"aipp_op {{ {STATIC} crop: False load_start_pos_w: 16 crop_size_w: 8 csc_switch: false matrix_r1c1: -100 }}",
        f"aipp_op {{ {STATIC} cpadding_value: 0.0 mean_chn_3: 7 var_reci_chn_3: 2 max_src_image_size: 4 }}",
    ],
)
def test_equivalent_forms_of_an_aipp_file_read_alike(text: str) -> None:
    assert aipp.read(text) == aipp.Aipp(0, 0, (0.0,) * 3, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("word", "value"), [("-1.5", -1.5), ("2", 2.0), (".5", 0.5), ("1.", 1.0), ("1e-2", 0.01), ("1.5E+1", 15.0)]
)
def test_number_formats_are_read(word: str, value: float) -> None:
    assert aipp.read(f"aipp_op {{ {STATIC} mean_chn_1: 104 min_chn_1: {word} }}") == aipp.Aipp(
        0, 0, (0.0, 104.0, 0.0), (0.0, value, 0.0), (1.0,) * 3
    )


def error_of(text: str) -> str:
    with pytest.raises(AtcError) as caught:
        aipp.read(text)
    return str(caught.value)


WHOLE = "a whole number that is not smaller than 0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is not of the form aipp_op { name: value … }"),
        ("aipp_op {", "the file is not of the form aipp_op { name: value … }"),
        (f"aipp_op {{ {STATIC} }} }}", "the file is not of the form aipp_op { name: value … }"),
        (f"{{ {STATIC} }}", "the file is not of the form aipp_op { name: value … }"),
        ("aipp_op { }", "When insert AIPP op, aipp_mode must be configured as static or dynamic"),
        ("aipp_op { aipp_mode: static }", "Input format of AIPP conf must be set in static aipp"),
        ("aipp_op {\n aipp_mode: fixed }", "line 2: aipp_mode (expected static or dynamic, found fixed)"),
        (f"aipp_op {{\n\n{STATIC}\n mean: 4 }}", "line 4: unknown field mean"),
        (f"aipp_op {{ {STATIC}\n crop }}", "line 2: expected name: value, found crop"),
        (f"aipp_op {{ {STATIC}\n crop: }}", "line 2: expected name: value, found crop:"),
        (f"aipp_op {{ {STATIC}\n crop = true\n }}", "line 2: expected name: value, found crop = true"),
        (f"aipp_op {{ {STATIC} crop: 2 }}", "line 1: crop (expected true or false, found 2)"),
        (
            f"aipp_op {{ {STATIC} min_chn_0: 1 min_chn_0: 1 }}",
            "The parameter min_chn_0 can not be configured repeatedly",
        ),
        (f"aipp_op {{ {STATIC} min_chn_0: nan }}", "line 1: min_chn_0 (expected a number, found nan)"),
        (f"aipp_op {{ {STATIC} src_image_size_w: -1 }}", f"line 1: src_image_size_w (expected {WHOLE}, found -1)"),
        (f"aipp_op {{ {STATIC} mean_chn_0: 1.5 }}", f"line 1: mean_chn_0 (expected {WHOLE}, found 1.5)"),
        (f"aipp_op {{ {STATIC} src_image_size_h: 0x10 }}", f"line 1: src_image_size_h (expected {WHOLE}, found 0x10)"),
    ],
)
def test_invalid_aipp_files_are_rejected(text: str, reason: str) -> None:
    assert error_of(text) == f"E10052: AIPP configuration is invalid. Reason: {reason}."


@pytest.mark.parametrize(
    "field",
    [
        *(f"{switch}: true" for switch in aipp.SWITCHES),
        "related_input_rank: 1",
        "input_edge_idx: 0",
        "aipp_mode: dynamic",
        "input_format: YUV420SP_U8",
    ],
)
def test_aipp_fields_that_are_not_emulated_are_rejected(field: str) -> None:
    fields = {line.split(":")[0]: line for line in ("aipp_mode: static", "input_format: RGB888_U8", field)}
    assert error_of(f"aipp_op {{ {' '.join(fields.values())} }}") == (
        f"E10055: The operation is not supported. Reason: The emulator of atc does not support {field} in "
        "--insert_op_conf: remove it, or run atc itself."
    )


def test_several_aipp_ops_are_rejected() -> None:
    assert "does not support several aipp_op in --insert_op_conf: " in error_of(IMAGENET + IMAGENET)


@pytest.mark.parametrize(
    ("shape", "input_format", "reason"),
    [
        ([16, 3, 192, 224], "ND", "aipp input format only support NCHW, found --input_format=ND"),
        ([16, 3, 224], "NCHW", "RGB888_U8 needs a model input [N, 3, H, W], found [16, 3, 224]"),
        ([16, 1, 192, 224], "NCHW", "RGB888_U8 needs a model input [N, 3, H, W], found [16, 1, 192, 224]"),
        (
            [-1, 3, 192, 224],
            "NCHW",
            "static AIPP does not support an input with dynamic shape, found [-1, 3, 192, 224]",
        ),
        (
            [16, 3, 224, 224],
            "NCHW",
            "the data output H and W is not equal with aipp output H and W. aipp output_height:192, aipp "
            "output_width:224, data's height:224, data's width:224",
        ),
    ],
)
def test_models_that_do_not_fit_the_aipp_file_are_rejected(shape: list[int], input_format: str, reason: str) -> None:
    aipp.check_fits(aipp.read(IMAGENET), [16, 3, 192, 224], "NCHW")
    with pytest.raises(AtcError) as caught:
        aipp.check_fits(aipp.read(IMAGENET), shape, input_format)
    assert str(caught.value) == f"E10052: AIPP configuration is invalid. Reason: {reason}."


def normalised(x: np.ndarray) -> np.ndarray:
    """IMAGENET's arithmetic in float32: uint8 [N, H, W, 3] -> [N, 3, H, W]."""
    low, factor = np.float32([123.675, 116.28, 103.53]), np.float32([0.0171247538, 0.0175070028, 0.0174291939])
    return np.ascontiguousarray(((x.astype(np.float32) - low) * factor).transpose(0, 3, 1, 2))


def with_aipp(folder: Path, text: str, **changes: str) -> list[str]:
    (folder / "m.aipp.cfg").write_text(text)
    return command_of(folder, insert_op_conf=str(folder / "m.aipp.cfg"), **changes)


def test_aipp_is_the_formula_in_float32_to_the_bit(tmp_path: Path) -> None:
    saved(tmp_path, passing())
    assert main.main(with_aipp(tmp_path, render_aipp(16, 16, MEAN, STD))) == 0
    np.testing.assert_array_equal(results(tmp_path / "out.onnx", pixels(16)), normalised(pixels(16)))
    model = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert graph.metadata_of(model)["atc.insert_op_conf"] == "m.aipp.cfg"
    shapes = [("image", "tensor(uint8)", [16, 16, 16, 3]), ("what", "tensor(float)", [16, 3, 16, 16])]
    assert interface(tmp_path / "out.onnx") == shapes


def test_mean_and_min_are_subtracted_separately(tmp_path: Path) -> None:
    """Without mean and min, pixels are only cast."""
    saved(tmp_path, passing())
    x = pixels(16)
    mean, low, factor = np.float32([104, 0, 7]), np.float32([0.1, 1e-3, 0]), np.float32([1, 3.3, 1])
    values = "mean_chn_0: 104 mean_chn_2: 7 min_chn_0: 0.1 min_chn_1: 1e-3 var_reci_chn_1: 3.3"
    for fields, wanted in ((values, ((x - mean) - low) * factor), ("", x.astype(np.float32))):
        assert main.main(with_aipp(tmp_path, f"aipp_op {{ {STATIC} {fields} }}")) == 0
        np.testing.assert_array_equal(results(tmp_path / "out.onnx", x), wanted.transpose(0, 3, 1, 2))


def test_a_float16_network_gets_the_result_of_aipp_rounded_once(tmp_path: Path) -> None:
    """The network gets the same bits as with normalised float32 inputs, which are rounded to float16."""
    saved(tmp_path, passing())
    assert main.main(with_aipp(tmp_path, render_aipp(16, 16, MEAN, STD), precision_mode="force_fp16")) == 0
    x = pixels(16)
    found = results(tmp_path / "out.onnx", x)
    np.testing.assert_array_equal(found, half.round_half(normalised(x)))
    table = half.round_half(normalise_table(MEAN, STD))
    np.testing.assert_array_equal(found, np.stack([normalise(image, table) for image in x]))
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)


@pytest.mark.parametrize("taken", ["image_aipp_planes", "image_aipp"])
def test_a_network_with_aipp_gives_the_logits_of_normalised_images(taken: str, tmp_path: Path) -> None:
    """The logits equal those of numpy's normalised pixels, whatever the tensors' names are."""
    model = classifier()
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = taken
    source = saved(tmp_path, model)
    assert main.main(with_aipp(tmp_path, render_aipp(16, 16, MEAN, STD))) == 0
    x = pixels(16)
    planes = normalised(x)
    np.testing.assert_allclose(results(tmp_path / "out.onnx", x), results(source, planes), rtol=0, atol=1e-5)
    fp16 = {"precision_mode": "force_fp16"}
    assert main.main(with_aipp(tmp_path, render_aipp(16, 16, MEAN, STD), **fp16)) == 0
    found = results(tmp_path / "out.onnx", x)
    assert main.main(command_of(tmp_path, **fp16)) == 0
    np.testing.assert_array_equal(found, results(tmp_path / "out.onnx", planes))
