"""hrnet.keep_float: the list of operators, and where they are in an optimised graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from atc.emulator.main import optimise
from hrnet.cli import UserError
from hrnet.keep_float import locate, read_list
from tests.support.onnx_models import classifier, model_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Gemm_4\n\n  Conv_0 \n", ["Conv_0", "Gemm_4"]),
        ("OpType::Relu\nConv_0\n", ["Conv_0", "Relu_1"]),
        ("OpType::Conv2D\n", ["Conv_0"]),
        ("OpType::Conv\nConv_0\n", ["Conv_0"]),
        ("", []),
    ],
)
def test_names_and_types(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    assert read_list(tmp_path / "list.txt", classifier().graph) == names


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"Conv_0\nConv_9\n", "Conv_9"), (b"OpType::Sigmoid\n", "OpType::Sigmoid"), (b"optype::Conv\n", "optype::Conv")],
)
def test_unknown_operators_are_rejected(content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_list(tmp_path / "list.txt", classifier().graph)
    assert caught.value.found == found and "Conv_0" in str(caught.value.expected)


def test_files_that_are_not_lists_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("bytes", "missing", "."):
        with pytest.raises(UserError) as caught:
            read_list(tmp_path / name, classifier().graph)
        assert caught.value.where == tmp_path / name


def test_operators_that_were_fused_are_found() -> None:
    """The batch norm becomes part of the convolution, Identity disappears, MatMul and Add become one Gemm."""
    stored = {name: np.full(3, 0.5, np.float32) for name in ("scale", "shift", "mean", "var", "bias")}
    stored |= {"kernel": np.ones((3, 3, 1, 1), np.float32), "weights": np.eye(3, dtype=np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["c"], "Conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "Norm"),
        helper.make_node("Identity", ["n"], ["i"], "Same"),
        helper.make_node("Relu", ["i"], ["r"], "Relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "Pool"),
        helper.make_node("Flatten", ["g"], ["f"], "Flatten"),
        helper.make_node("MatMul", ["f", "weights"], ["p"], "Product"),
        helper.make_node("Add", ["p", "bias"], ["out"], "Sum"),
    ]
    model = model_of(nodes, {"image": [1, 3, 4, 4]}, {"out": [1, 3]}, **stored)
    optimised = optimise(model, "model.onnx")
    kinds = {node.name: node.op_type for node in optimised.graph.node}
    assert list(kinds.values()) == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]

    def found(name: str) -> list[str]:
        return [kinds[each] for each in locate([name], model.graph, optimised.graph)]

    assert {name: found(name) for name in ("Conv", "Norm", "Same", "Relu", "Product", "Sum")} == {
        "Conv": ["Conv"],
        "Norm": ["Conv"],
        "Same": ["Relu"],
        "Relu": ["Relu"],
        "Product": ["Gemm"],
        "Sum": ["Gemm"],
    }
