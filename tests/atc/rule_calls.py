"""Calls of atc.atc_rules on the arguments of a small model."""

from __future__ import annotations

from pathlib import Path

import pytest

from atc import atc_rules
from atc.atc_rules import AtcError, Model

MODEL = Model(
    inputs={"image": [-1, 3, 224, 224]},
    outputs=["output1", "output2"],
    nodes={"Conv_770": 1, "Conv_795": 1, "Split_3": 2},
)


BASE = {
    "framework": "5",
    "model": "m.onnx",
    "input_format": "NCHW",
    "input_shape": "image:16,3,224,224",
    "output": "out",
    "soc_version": "Ascend310P3",
}


DIMS = {"input_format": "ND", "input_shape": "image:1,3,-1,-1"}
REJECTIONS = [entry.splitlines() for entry in Path(__file__).with_name("rejections.txt").read_text().split("\n\n")[1:]]


def check(changes: dict[str, str | None]) -> None:
    arguments = {**BASE, **changes}
    words = [f"--{name}={value}" for name, value in arguments.items() if value is not None]
    atc_rules.check(atc_rules.parse(words), MODEL)


def rule_error(changes: dict[str, str | None]) -> str:
    with pytest.raises(AtcError) as caught:
        check(changes)
    assert str(caught.value) == f"{caught.value.code}: {caught.value.text}"
    return str(caught.value)
