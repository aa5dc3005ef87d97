"""compare/graphs.py: which tensors are matched, how graphs are cut, and names of layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compare.graphs import Graph, cut, layer_names, match, order
from hrnet.cli import UserError
from pth2onnx import classification, pose
from tests.support import tiny
from tests.support.onnx_models import model_of


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_layers_have_the_names_of_torch_modules(task: str, tmp_path: Path) -> None:
    is_pose = task == "pose"
    weights = tiny.write_pose_weights(tmp_path) if is_pose else tiny.write_weights(tmp_path)
    cfg = tmp_path / ("tiny_pose.yaml" if is_pose else "tiny.yaml")
    main = pose.main if is_pose else classification.main
    assert main(["--cfg", str(cfg), "--weights", str(weights), "--output", str(tmp_path / "m.onnx")]) == 0
    net = tiny.build_pose(tmp_path) if is_pose else tiny.build(tmp_path)
    modules = {name: type(module).__name__ for name, module in net.named_modules()}
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    layers = layer_names(node.name for node in nodes)
    types = {"Conv": "Conv2d", "ConvTranspose": "ConvTranspose2d", "Gemm": "Linear"}
    weighted = [node for node in nodes if node.op_type in types]
    assert len(weighted) > 40
    for node in weighted:
        assert modules[layers[node.name]] == types[node.op_type], node.name
    assert set(layers.values()) <= modules.keys()


def test_a_repeated_call_and_a_module_with_a_number() -> None:
    names = ["/a/relu/Relu", "/a/relu_1/Relu", "/a/relu_2/Relu", "/a/conv_1/Conv", "/b/relu_1/Relu", "/Add", "Conv_12"]
    assert list(layer_names(names).values()) == ["a.relu", "a.relu", "a.relu", "a.conv_1", "b.relu_1", "", ""]


def chain(*names: str, **changes: list[str]) -> onnx.ModelProto:
    """image -> Relu -> names[0] -> Relu -> names[1] …; `changes`: {tensor: inputs of its operator}, two for an Add."""
    nodes = []
    for before, name in zip(("image", *names), names):
        given = changes.get(name, [before])
        nodes.append(helper.make_node("Add" if len(given) == 2 else "Relu", given, [name], f"/{name}/Op"))
    return model_of(nodes, {"image": [1, 2]}, {names[-1]: [1, 2]})


def test_tensors_that_only_one_graph_has_belong_to_the_next_part() -> None:
    graphs = Graph(chain("a", "b", "c", "d")), Graph(chain("a", "x", "d"))
    matched = match(*graphs)
    assert matched == {"a": ["a"], "d": ["d"]}
    one, other = (cut(graph, {name: [name] for name in matched}) for graph in graphs)
    assert [node.output[0] for node in one["d"].model.graph.node] == ["b", "c", "d"]
    assert [node.output[0] for node in other["d"].model.graph.node] == ["x", "d"]
    assert one["d"].feeds == {"a": "a"} and one["a"].graph_inputs == ["image"]


def test_constants_and_integers_are_not_matched() -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.FLOAT, [1], [2.0])),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Mul", ["image", "k"], ["m"]),
        helper.make_node("Reshape", ["m", "shape"], ["out"]),
    ]
    graph = Graph(model_of(nodes, {"image": [1, 2]}, {"out": [1, 2]}))
    assert list(match(graph, graph)) == ["m", "out"]


def test_a_graph_in_an_operator_reads_outer_tensors() -> None:
    inner = [
        helper.make_graph(
            [helper.make_node("Relu", [name], [f"{name}_out"])],
            "inner",
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name in "ab"
    ]
    nodes = [
        helper.make_node("Relu", ["image"], ["a"]),
        helper.make_node("Neg", ["image"], ["b"]),
        helper.make_node("If", ["yes"], ["out"], then_branch=inner[0], else_branch=inner[1]),
    ]
    graph = Graph(model_of(nodes, {"image": [1, 2]}, {"out": [1, 2]}, yes=np.array(True)))
    matched = match(graph, graph)
    assert cut(graph, matched)["out"].feeds == {"a": "a", "b": "b"}


def test_the_order_satisfies_both_graphs() -> None:
    one = Graph(chain("a", "b", "c", "d", d=["a", "b"]))
    other = Graph(chain("a", "c", "b", "d", b=["a", "c"]))
    matched = match(one, other)
    parts = cut(one, {name: [name] for name in matched}), cut(other, matched)
    with pytest.raises(UserError, match="contradicting"):
        order(parts)
    later = Graph(chain("a", "c", "b", "d", c=["a", "a"], b=["a", "a"], d=["b", "c"]))
    first = Graph(chain("a", "b", "c", "d", b=["a", "a"], c=["a", "a"], d=["c", "b"]))
    both = match(first, later)
    found = order([cut(graph, {name: [name] for name in both}) for graph in (first, later)])
    assert found == ["a", "b", "c", "d"]
