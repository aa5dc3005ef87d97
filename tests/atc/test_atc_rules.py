"""All errors of atc.atc_rules and atc.shapes, with their codes and texts; the model zoo's commands are accepted."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc import atc_rules, shapes
from atc.atc_rules import AtcError, Model
from tests.atc.rule_calls import DIMS, MODEL, REJECTIONS, check, rule_error
from tests.support.atc_arguments import HIGHER_HRNET_GEARS

HRNET_COMMAND = (
    'atc --framework=5 --model=./hrnet_w18.onnx --input_format=NCHW --input_shape="image:16,3,224,224" '
    "--output=hrnet_bs16 --log=debug --soc_version=Ascend310"
)
HIGHER_HRNET_COMMAND = r"""atc --framework=5 \
             --model=higher_hrnet_dynamic.onnx \
             --output=higher_hrnet_dynamic \
             --input_format=ND \
             --input_shape="input:1,3,-1,-1" \
             --dynamic_dims="@GEARS" \
             --out_nodes="Conv_770:0;Conv_795:0"\
             --soc_version=Ascend310P3
"""
FLAGS = "--dynamic_batch_size, --dynamic_image_size, or --dynamic_dims"


def test_the_model_zoos_command_for_hrnet_is_accepted() -> None:
    arguments = atc_rules.parse(shlex.split(HRNET_COMMAND)[1:])
    assert arguments["model"] == "./hrnet_w18.onnx"
    assert atc_rules.input_shapes(arguments) == {"image": [16, 3, 224, 224]}
    atc_rules.check(arguments, MODEL)


def test_the_model_zoos_command_for_higher_hrnet_is_accepted() -> None:
    command = HIGHER_HRNET_COMMAND.replace("\\\n", " ").replace("@GEARS", HIGHER_HRNET_GEARS)
    arguments = atc_rules.parse(shlex.split(command)[1:])
    model = Model({"input": [-1, 3, -1, -1]}, ["output1", "output2"], {"Conv_770": 1, "Conv_795": 1})
    atc_rules.check(arguments, model)
    gears = atc_rules.gears(arguments)
    assert len(gears) == 17
    assert gears[0] == (1024, 512) and gears[8] == (512, 512) and gears[-1] == (512, 1024)
    assert atc_rules.out_nodes(arguments) == [("Conv_770", 0), ("Conv_795", 0)]


def test_both_forms_of_an_argument_are_read() -> None:
    assert atc_rules.parse(["--model", "a", "-output=b", "--soc-version=c", "--input_shape=x:y=1:2", "--log="]) == {
        "model": "a",
        "output": "b",
        "soc_version": "c",
        "input_shape": "x:y=1:2",
    }
    assert atc_rules.parse(["--log=debug", "--log=error"]) == {"log": "error"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--modle=x"], "unknown command line flag 'modle'"),
        (["m.onnx"], "Non-option parameter: m.onnx"),
        (["--model"], "flag '--model' is missing its argument"),
    ],
)
def test_unknown_arguments_are_rejected(words: list[str], text: str) -> None:
    with pytest.raises(AtcError) as caught:
        atc_rules.parse(words)
    assert (caught.value.code, caught.value.text) == ("E19999", text)


@pytest.mark.parametrize("lines", REJECTIONS, ids=lambda lines: " ".join(lines[:-1]))
def test_invalid_arguments_are_rejected_with_atcs_text(lines: list[str]) -> None:
    changes = dict(line[2:].split("=", 1) for line in lines[:-1])
    assert rule_error(changes) == lines[-1]


def test_more_than_100_gears_are_rejected() -> None:
    gears = ";".join(f"1,{n + 1}" for n in range(101))
    expected = f"E10036: {FLAGS} has 101 profiles, which is greater than the maximum 100."
    assert rule_error({**DIMS, "dynamic_dims": gears}) == expected


def test_gears_of_unequal_width_are_rejected() -> None:
    with pytest.raises(AtcError) as caught:
        shapes.check_gears([(1, 2), (3,)])
    expected = (
        f"The profiles configured in {FLAGS} have inconsistent dimension counts. A profile has 2 dimensions while "
        "another has 1 dimensions."
    )
    assert (caught.value.code, caught.value.text) == ("E10037", expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"input_shape": "image:-1,3,224,224"},  # dynamic, without gears
        {"input_shape": "image:1~8,3,224,224"},
        {"input_shape": None},
        {"input_format": None},
        {"precision_mode": "force_fp16"},
        {"precision_mode_v2": "mixed_float16", "modify_mixlist": "list.json"},
        {"op_select_implmode": "high_precision_for_all", "buffer_optimize": "off_optimize"},
        {"enable_small_channel": "1", "log": "null"},
        {"out_nodes": "output1;output2"},
        {"out_nodes": "Conv_770:0;Split_3:1"},
        {"output_type": "Conv_770:0:FP16;Conv_795:0:FP32"},
        {"insert_op_conf": "aipp.cfg"},
        {"mode": "3", "output": None},
        {"mode": "6", "om": "a.om", "framework": None},
    ],
)
def test_arguments_that_atc_accepts_are_accepted(changes: dict[str, str | None]) -> None:
    check(changes)


def test_a_name_may_contain_a_colon() -> None:
    assert atc_rules.input_shapes({"input_shape": "a:0:1,2;b:3"}) == {"a:0": [1, 2], "b": [3]}


GEARS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(1, 4096)] * width), min_size=2, max_size=100, unique=True)
)


def dims_arguments(gears: list[tuple[int, ...]], width: int, end: str = "") -> dict[str, str]:
    shape = ",".join(["1", *["-1"] * width])
    text = ";".join(",".join(map(str, gear)) for gear in gears)
    return {"input_format": "ND", "input_shape": f"image:{shape}", "dynamic_dims": text + end}


@given(GEARS, st.sampled_from(["", ";"]))
def test_valid_gears_are_read_back(gears: list[tuple[int, ...]], end: str) -> None:
    assert atc_rules.gears(dims_arguments(gears, len(gears[0]), end)) == gears


@given(GEARS, st.data())
def test_one_error_in_valid_gears_is_rejected_with_its_code(gears: list[tuple[int, ...]], data: st.DataObject) -> None:
    width = len(gears[0])
    at = data.draw(st.integers(0, len(gears) - 1))
    errors = {
        "E10003": [*gears[:at], (*gears[at], 7), *gears[at + 1 :]],
        "E10035": gears[:1],
        "E10036": [(n + 1,) * width for n in range(101)],
        "E10038": [*gears[:at], (0, *gears[at][1:]), *gears[at + 1 :]],
        "E10039": [gears[-1], *gears[1:]] if len(gears) > 2 else [gears[0], gears[0]],
    }
    for code, bad in errors.items():
        with pytest.raises(AtcError) as caught:
            atc_rules.gears(dims_arguments(bad, width))
        assert caught.value.code == code


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(1, 4096)), min_size=2, max_size=100, unique=True))
def test_valid_image_sizes_are_read_back(sizes: list[tuple[int, int]]) -> None:
    text = ";".join(f"{height}, {width}" for height, width in sizes)
    assert atc_rules.gears({"input_shape": "image:1,3,-1,-1", "dynamic_image_size": text}) == sizes


@given(st.lists(st.integers(1, 512), min_size=2, max_size=100, unique=True), st.sampled_from(["", ","]))
def test_valid_batch_sizes_are_read_back(sizes: list[int], end: str) -> None:
    text = ",".join(map(str, sizes)) + end
    arguments = {"input_shape": "image:-1,3,224,224", "dynamic_batch_size": text}
    assert atc_rules.gears(arguments) == [(size,) for size in sizes]


@given(st.text(max_size=30), st.sampled_from(sorted(atc_rules.PARAMETERS)))
def test_any_text_is_accepted_or_rejected_in_atcs_form(text: str, name: str) -> None:
    try:
        check({name: text})
    except AtcError as error:
        assert error.code.startswith("E1") and error.text
