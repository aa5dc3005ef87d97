"""make/checks.py: values that have the wrong format, and the hints what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import ONNX, add_atc, rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH", "0"),
        ("BATCH", "-1"),
        ("BATCH", "four"),
        ("BATCHES", "1,,4"),
        ("BATCHES", "1;4"),
        ("LOOP", "0"),
        ("INPUT", "float16"),
        ("PRECISION", "int4"),
        ("CALIB", "0"),
        ("SOC", "v100"),
        ("SOC", "Ascend310P3;x"),
        ("ATC_FLAGS", "keep_dtype=x"),
        ("ATC_FLAGS", "--keep_dtype"),
        ("ATC_FLAGS", "--keep_dtype=$x"),
        ("ATC_FLAGS", "--log=error;--log=#"),
        ("DEVICE", "0,"),
        ("DEVICE", "01"),
        ("BACKEND", "tensorrt"),
        ("TUNE", "yes"),
        ("GATE", "1%"),
        ("GATE", "-1"),
        ("LIMIT", "many"),
        ("MAX_REJECTED", "-1"),
        ("BUNDLE", "all"),
        ("DATASET", "a b"),
        ("DATASET", "a+b"),
        ("WEIGHTS", "it's.pth"),
        ("ONNX", "a$b"),
        ("PYTHON", "python3;"),
        ("OM", "a b.om"),
        ("BUILD", "a b"),
        ("FLIP", "2"),
        ("SHARDS", "0"),
        ("SHARDS", "two"),
        ("SHARD", "3"),
        ("SHARD", "0/3"),
        ("SHARD", "4/3"),
        ("KEEP", "0"),
    ],
)
def test_invalid_values_are_rejected(name: str, value: str) -> None:
    assert rejected(**{name: value}).startswith(f"{name}={value}: ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BUILD", "leave out BUILD="),
        ("DATASET", "leave out DATASET="),
        ("PYTHON", "leave out PYTHON="),
        ("LOOP", "leave out LOOP="),
        ("WEIGHTS", "give WEIGHTS=weights/net.pth"),
        ("ONNX", "give ONNX=build/net/model.onnx"),
    ],
)
def test_an_empty_value_that_is_not_allowed_gets_a_hint_that_works(name: str, hint: str) -> None:
    assert rejected(**{name: ""}).endswith(f"; {hint}")
    value = hint.partition("=")[2]
    if value:  # the file need not exist: make downloads WEIGHTS and exports ONNX
        assert resolve("weights eval", **{name: value})[name] == value


@pytest.mark.parametrize(("value", "near"), [("Acsend310P3", "310P3"), ("P3", "310P3"), ("v910B4", "910B4")])
def test_a_misspelt_chip_gets_the_nearest_name(value: str, near: str) -> None:
    assert near in rejected(SOC=value).partition("did you mean ")[2]


@pytest.mark.parametrize(
    ("value", "likely"),
    [
        ("Ascend310P", "SOC=Ascend310P3"),
        ("310p", "SOC=Ascend310P3"),
        ("Ascend3", "SOC=Ascend310P3"),
        ("Ascend310B", "SOC=Ascend310B1"),
        ("Ascend950PR", "SOC=Ascend950PR_957d"),
    ],
)
@pytest.mark.parametrize("backend", ["onnxruntime", "ascend"])
def test_the_first_part_of_a_chip_name_is_rejected(value: str, likely: str, backend: str, checkout: Path) -> None:
    add_atc(checkout)
    line = rejected("om", SOC=value, BACKEND=backend)
    assert line.endswith(f"give {likely}") and line.lower().startswith("soc=") and value[-2:].lower() in line.lower()


@pytest.mark.parametrize("value", ["Ascend310P33", "Ascend31OP3", "Ascend310P8"])
def test_atc_decides_about_a_name_that_is_similar_to_a_known_chip(value: str, checkout: Path) -> None:
    """With BACKEND=ascend, atc checks the name. With another backend make rejects it: the emulators accept any name."""
    line = rejected("om", SOC=value, BACKEND="onnxruntime")
    assert line.startswith(f"SOC={value}: ") and "BACKEND=ascend" in line and line.endswith("give SOC=Ascend310P3")
    Path("my.onnx").write_bytes(ONNX)
    Path("my.onnx.json").touch()
    resolve("infer", OM="my.onnx", SOC=value)
    assert not Path("build/net/settings/SOC.mk").exists(), "not used"
    add_atc(checkout)
    assert resolve("om", SOC=value, BACKEND="ascend", OM="")["SOC"] == value


@pytest.mark.parametrize("backend", ["onnxruntime", "ascend"])
def test_an_unknown_chip_that_is_like_no_other_is_accepted(backend: str, checkout: Path) -> None:
    add_atc(checkout)
    assert resolve("om", SOC="Ascend1100X_7", BACKEND=backend)["SOC"] == "Ascend1100X_7"


@pytest.mark.parametrize(
    ("name", "value"), [("DATASET", "set "), ("DATASET", " set"), ("BATCH", "4 "), ("SOC", "Ascend310P3 ")]
)
def test_a_blank_at_an_end_is_removed_by_the_hint(name: str, value: str) -> None:
    line = rejected(**{name: value})
    assert line.endswith(f": {name}={value.strip()}") and "ln -s" not in line
    assert rejected(CFG="configs/net.yaml ").endswith(" CFG=configs/net.yaml")


@pytest.mark.parametrize("given", [{"BATCH": "4"}, {"BATCHES": "1,4"}, {"FLIP": "x"}])
def test_invalid_values_for_pose_are_rejected(given: dict[str, str]) -> None:
    ((name, value),) = given.items()
    assert rejected(MODEL="people", **given).startswith(f"{name}={value}: ")


@pytest.mark.parametrize("path", ["with space", "数据", "a;b"])
def test_a_path_that_tools_reject_can_be_linked(path: str) -> None:
    Path(path).mkdir()
    line = rejected(DATASET=path)
    assert line.startswith(f"DATASET={path}: ") and "ln -s" in line
