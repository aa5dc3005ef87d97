"""make/options.py, rules of KEEP_FLOAT: it is a part of the names of products; in some calls it has no effect; it is
remembered; invalid values are rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import add_atc, rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")


@pytest.fixture(autouse=True)
def lists(checkout: Path) -> None:
    for name in ("mine.txt", "auto.txt"):
        (checkout / name).write_text("Conv_0\n")


@pytest.mark.parametrize(
    ("given", "tag", "precision", "variant"),
    [
        ({"PRECISION": "int8"}, "onnxruntime-bs16-int8", "", ""),
        ({"PRECISION": "int8", "KEEP_FLOAT": "auto"}, "onnxruntime-bs16-int8-keep-auto", "int8", "keep-auto"),
        ({"PRECISION": "fp16", "KEEP_FLOAT": "mine.txt"}, "onnxruntime-bs16-fp16-keep-mine", "fp16", ""),
        ({"PRECISION": "int8-minmax"}, "onnxruntime-bs16-int8-minmax", "", "minmax"),
        (
            {"PRECISION": "int8-entropy", "KEEP_FLOAT": "mine.txt", "BACKEND": "openvino"},
            "openvino-bs16-int8-entropy-keep-mine",
            "int8",
            "entropy-keep-mine",
        ),
    ],
)
def test_names_of_products(given: dict[str, str], tag: str, precision: str, variant: str) -> None:
    found = resolve(**given)
    assert (found["TAG"], found["KEEP_PRECISION"], found["INT8_VARIANT"]) == (tag, precision, variant)
    assert found["TARGET"] in found["BENCH"] and found["TARGET"] in found["QPS"]


def test_names_of_products_with_atc(checkout: Path) -> None:
    """By default atc computes in float16."""
    add_atc(checkout)
    for precision, tag in (
        ("default", "ascend-bs16-Ascend310P3-keep-mine"),
        ("fp16", "ascend-bs16-Ascend310P3-fp16-keep-mine"),
        ("int8", "ascend-bs16-Ascend310P3-int8-keep-mine"),
        ("fp32", "ascend-bs16-Ascend310P3-fp32"),
    ):
        assert resolve(PRECISION=precision, KEEP_FLOAT="mine.txt")["TAG"] == tag
    assert "PRECISION=int8" in rejected_here(PRECISION="int8-minmax")


def rejected_here(**given: str) -> str:
    """As `rejected`, but allows that values were remembered before."""
    with pytest.raises(Exception) as caught:
        resolve(**given)
    return str(caught.value)


@pytest.mark.parametrize(
    "given", [{}, {"PRECISION": "fp32"}, {"BACKEND": "torchscript", "PRECISION": "default"}, {"OM": "my.onnx"}]
)
def test_keep_float_without_effect_is_reported(given: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("my.onnx", "my.onnx.json"):
        Path(name).touch()
    found = resolve(KEEP_FLOAT="auto", **given)
    assert found["KEEP_PRECISION"] == "" and "keep" not in found["TAG"]
    assert "KEEP_FLOAT=auto is ignored" in capsys.readouterr().err


def test_keep_float_is_remembered() -> None:
    resolve(PRECISION="int8", KEEP_FLOAT="mine.txt")
    assert resolve()["TAG"] == "onnxruntime-bs16-int8-keep-mine"
    assert resolve(KEEP_FLOAT="")["TAG"] == "onnxruntime-bs16-int8"


def test_values_are_not_remembered_if_once_is_among_the_goals() -> None:
    """make precision calls make with the goal `once` for each row of its table."""
    resolve(PRECISION="fp16")
    found = resolve("once build/net/eval/x.json", PRECISION="int8", KEEP_FLOAT="auto")
    assert found["TAG"] == "onnxruntime-bs16-int8-keep-auto" and found["STALE"] == ""
    assert resolve()["TAG"] == "onnxruntime-bs16-fp16"


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"KEEP_FLOAT": "none.txt"}, ["KEEP_FLOAT=none.txt", "KEEP_FLOAT=auto"]),
        ({"KEEP_FLOAT": "auto.txt"}, ["KEEP_FLOAT=auto.txt", "auto"]),
        ({"KEEP_FLOAT": "a list.txt"}, ["KEEP_FLOAT=a list.txt", "auto"]),
        ({"KEEP_FLOAT": "mine.txt", "ATC_FLAGS": "--keep_dtype=mine.txt"}, ["KEEP_FLOAT=mine.txt", "ATC_FLAGS="]),
        ({"PRECISION": "int8-median"}, ["PRECISION=int8-median", "int8-minmax"]),
        ({"PRECISION": "int8-minmax", "BACKEND": "torchscript"}, ["BACKEND=torchscript", "int8"]),
    ],
)
def test_invalid_values_of_keep_float_are_rejected(given: dict[str, str], parts: list[str]) -> None:
    line = rejected(**given)
    assert all(part in line for part in parts), line
