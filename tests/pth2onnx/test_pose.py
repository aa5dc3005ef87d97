"""pth2onnx/pose.py: the seed's names and axes, a graph without computed shapes, parity at several gears."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hrnet.config import CONFIGS, config_sha256, load_config
from hrnet.io.files import sha256_file
from hrnet.nets import pose as nets
from pth2onnx import parity, pose
from tests import tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with tiny_pose.yaml, tiny_pose.pth and model.onnx."""
    folder = tmp_path_factory.mktemp("export")
    weights = tiny.write_pose_weights(folder)
    arguments = ["--cfg", folder / "tiny_pose.yaml", "--weights", weights, "--onnx_path", folder / "model.onnx"]
    assert pose.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def model(exported):
    return onnx.load(exported / "model.onnx")


def test_interface(model):
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "input": ["batch", 3, "height", "width"],
        "output1": ["batch", 10, "output1_height", "output1_width"],
        "output2": ["batch", 5, "output2_height", "output2_width"],
    }
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]


def test_the_graph_computes_no_shapes_and_holds_no_batch_norm(model):
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "ConvTranspose", "Relu", "Add", "Resize", "Concat", "Constant"}
    assert sum(node.op_type == "Concat" for node in model.graph.node) == 1
    (doubling,) = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    assert len(doubling.input) == 3, "the folded batch norm is its bias"


def test_metadata_and_record(exported, model):
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told == {
        "model": "tiny_pose",
        "config_sha256": config_sha256(load_config(exported / "tiny_pose.yaml")),
        "weights_sha256": sha256_file(exported / "tiny_pose.pth"),
        "torch_version": torch.__version__,
        "opset": "11",
    }
    record = json.loads((exported / "model.onnx.json").read_text(encoding="utf-8"))
    assert record["inputs"] == [[1, 3, 96, 64], [1, 3, 64, 64], [1, 3, 64, 128], [2, 3, 64, 64]]
    assert record["model_sha256"] == sha256_file(exported / "model.onnx")
    assert 0 <= record["max_abs_difference"] <= record["tolerance"] / 10


@pytest.mark.parametrize("height, width", [(64, 64), (32, 160), (96, 64)])
def test_any_size_gives_torchs_maps(exported, height, width):
    image = parity.images_like(2, (width, height), [0.5] * 3, [0.2] * 3, seed=height)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": image})
    with torch.inference_mode():
        expected = [output.numpy() for output in tiny.build_pose(exported)(torch.from_numpy(image))]
    assert [list(output.shape[2:]) for output in found] == [[height // 4, width // 4], [height // 2, width // 2]]
    for wanted, got in zip(expected, found):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_what_is_compared():
    seed = [(1, [512, 1024]), (1, [512, 512]), (1, [1024, 512]), (2, [512, 512])]
    assert pose.sizes(load_config(CONFIGS / "higher_hrnet_w32_512.yaml")) == seed


def test_a_config_without_gears_is_compared_at_its_size(tmp_path):
    path = tmp_path / "upstream.yaml"
    path.write_text("MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 640}")
    expected = [(1, [640, 704]), (1, [640, 640]), (1, [704, 640]), (2, [640, 640])]
    assert pose.sizes(load_config(path)) == expected


def refuse(capsys, code, *arguments) -> str:
    assert pose.main([str(argument) for argument in arguments]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_faults_of_the_user(exported, tmp_path, capsys):
    files = ["--weights", exported / "tiny_pose.pth", "--onnx_path", tmp_path / "model.onnx"]
    line = refuse(capsys, 2, "--cfg", CONFIGS / "hrnet_w18.yaml", *files)
    assert line.endswith("hrnet_w18.yaml: MODEL.NAME (expected pose_higher_hrnet, found cls_hrnet)\n")
    line = refuse(capsys, 2, *files)  # the default config is the seed's
    assert "tiny_pose.pth: does not fit the net" in line and "conv1.weight [8, 3, 3, 3] for [64, 3, 3, 3]" in line
    line = refuse(capsys, 2, "--cfg", exported / "tiny_pose.yaml", *files, "--opset", "10")
    assert "--opset (expected 11 to 18, found 10)" in line
    assert list(tmp_path.iterdir()) == []


def test_lost_parity_leaves_no_file(exported, tmp_path, capsys, monkeypatch):
    start = nets.build(load_config(exported / "tiny_pose.yaml")).eval()  # other weights
    fold = pose.fold
    monkeypatch.setattr(pose, "fold", lambda net: fold(start))
    files = ["--weights", exported / "tiny_pose.pth", "--onnx_path", tmp_path / "model.onnx"]
    line = refuse(capsys, 1, "--cfg", exported / "tiny_pose.yaml", *files)
    assert "failed: the ONNX file differs from torch by " in line
    assert list(tmp_path.iterdir()) == []
