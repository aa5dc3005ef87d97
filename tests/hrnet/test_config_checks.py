"""hrnet/config_checks.py: each key of each kind of model rejects wrong values; the hints for frequent mistakes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from hrnet.cli import UserError
from hrnet.config import load_config
from hrnet.config_checks import KIND_RULES, RULES, leaves
from hrnet.schemas import CLASSIFICATION, IGNORED, ONNX, POSE, SCHEMAS
from tests.support import coco_sets, tiny

POSE_VALUES = yaml.safe_load(tiny.POSE_CONFIG + coco_sets.DECODING)
MINIMAL: dict[str, Any] = {CLASSIFICATION: {}, POSE: POSE_VALUES, ONNX: {"MODEL": {"NAME": "onnx"}}}
KEYS = [(kind, name) for kind in SCHEMAS for name, _ in leaves(SCHEMAS[kind]()) if name not in IGNORED[kind]]
ANY_TEXT = ("MODEL.PRETRAINED", "DATASET.TRAIN", "DATASET.TEST", "REFERENCE.SOURCE", "WEIGHTS.URL")


def load(folder: Path, kind: str, name: str, value: Any) -> None:
    """Load the smallest config of this kind with a value for the key `name`, such as INPUT.RESIZER."""
    values = copy.deepcopy(MINIMAL[kind])
    *groups, key = name.split(".")
    node = values
    for group in groups:
        node = node.setdefault(group, {})
    node[key] = value
    path = folder / "model.yaml"
    path.write_text(yaml.dump(values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)), encoding="utf-8")
    load_config(path, complete=False)


def error_of(folder: Path, text: str) -> UserError:
    path = folder / "model.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path, complete=False)
    assert caught.value.where == path and "\n" not in str(caught.value)
    return caught.value


def test_each_key_of_each_kind_has_a_rule() -> None:
    assert {name for _, name in KEYS} == set(RULES)
    assert all(set(rules) <= {name for each, name in KEYS if each == kind} for kind, rules in KIND_RULES.items())


@pytest.mark.parametrize(("kind", "name"), KEYS)
def test_each_key_of_each_kind_rejects_wrong_values(kind: str, name: str, tmp_path: Path) -> None:
    """Values that are wrong for nearly all keys, so that this test does not repeat the rules."""
    default = dict(leaves(SCHEMAS[kind]()))[name]
    wrong: list[Any] = [None, {"a": 1}, [["x"]], float("nan"), [-2, "x", 0.5, {}]]
    if name not in ANY_TEXT:
        wrong += [[-1], True if not isinstance(default, bool) else 1]
        wrong += [-7, "-7"] if name != "DATASET.SIGMA" else [0]
        wrong += ["lanczos"] if name not in ("INPUT.GEARS", "INPUT.CLASS_NAMES") else []  # the path of a file
        wrong += [["x", "y"]] if name not in ("MODEL.EXTRA.PRETRAINED_LAYERS", "INPUT.CLASS_NAMES") else []
    for value in wrong:
        with pytest.raises(UserError) as caught:
            load(tmp_path, kind, name, value)
        assert name in str(caught.value), f"{value!r}: {caught.value}"


@pytest.mark.parametrize("kind", [CLASSIFICATION, ONNX])
@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("INPUT.RESIZER", "CV2", "did you mean cv2?"),
        ("INPUT.RESIZER", "opencv", ""),
        ("INPUT.INTERPOLATION", "BILINEAR", "did you mean bilinear?"),
        ("INPUT.INTERPOLATION", "lanczos", ""),
        ("INPUT.INTERPOLATION", "cubic", ""),
        ("REFERENCE.TOP1", 0.98, "write TOP1: 98"),
        ("REFERENCE.TOP5", 0.998, "write TOP5: 99.8"),
        ("REFERENCE.TOP1", 1, "write TOP1: 100"),
        ("REFERENCE.TOP1", "0.98", "write TOP1: 98"),
        ("REFERENCE.TOP1", "98 %", ""),
        ("REFERENCE.TOP5", 90.5, "REFERENCE.TOP1"),
        ("INPUT.MEAN", ["0.485 0.456 0.406"], "commas are missing: write MEAN: [0.485, 0.456, 0.406]"),
        ("INPUT.MEAN", "0.485 0.456 0.406", "commas are missing: write MEAN: [0.485, 0.456, 0.406]"),
        ("INPUT.STD", [0.229, "0.224 .225"], "commas are missing: write STD: [0.229, 0.224, .225]"),
        ("INPUT.STD", ["0.229", "0.224", "0.225"], "in quotes: write STD: [0.229, 0.224, 0.225]"),
        ("INPUT.STD", [58.395, 57.12, 57.375], ""),
        ("INPUT.MEAN", [123.675, 116.28, 103.53], ""),
        ("MODEL.IMAGE_SIZE", ["224 224"], "write IMAGE_SIZE: [224, 224]"),
    ],
)
def test_the_errors_of_frequent_values(kind: str, name: str, value: Any, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, kind, name, value)
    error = caught.value
    assert name in error.what and hint in (error.hint or ""), error
    assert "cv2" in str(error.expected) if name == "INPUT.RESIZER" else True
    assert (
        "divide by 255" in str(error.expected)
        if value in ([58.395, 57.12, 57.375], [123.675, 116.28, 103.53])
        else True
    )


def test_a_fraction_of_ap(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"REFERENCE\.AP.*percent.*found 0\.671.*write AP: 67\.1"):
        load(tmp_path, POSE, "REFERENCE", {"AP": 0.671, "IMAGES": 5000})


@pytest.mark.parametrize("figure", ["98", '"98"', '"98.0"', "9.8e1"])
def test_a_figure_may_be_in_quotes(figure: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(f"REFERENCE: {{TOP1: {figure}, IMAGES: '32'}}")
    reference = load_config(path).REFERENCE
    assert (reference.TOP1, reference.IMAGES) == (98.0, 32)


@pytest.mark.parametrize(
    ("text", "what", "found", "hint"),
    [
        ("REFERENCE: {TOP1: 70}", "REFERENCE.IMAGES is missing", None, "50000"),
        ("REFERENCE: {TOP1: 70, TOP5: 60, IMAGES: 9}", "REFERENCE.TOP5", 60.0, ""),
        (
            "MODEL: {IMAGE_SIZE: [256, 288]}",
            "INPUT.RESIZE is too small",
            256,
            "raise it, for example INPUT.RESIZE: 329",
        ),
    ],
)
def test_values_that_contradict_each_other(
    text: str, what: str, found: Optional[object], hint: str, tmp_path: Path
) -> None:
    error = error_of(tmp_path, text)
    assert error.what in (what, f"invalid {what}") and error.found == found and hint in (error.hint or "")


def test_a_pose_config_without_the_decoding_keys_gets_a_hint(tmp_path: Path) -> None:
    error = error_of(tmp_path, f"MODEL: {{NAME: {POSE}}}")
    assert error.hint and error.hint.startswith("write NMS_KERNEL: 5 below TEST")
