"""pth2onnx/pose.py: the model zoo's names and axes, a graph without computed shapes, parity at several gears."""

from __future__ import annotations

import json
from dataclasses import replace

import onnx
import pytest

from hrnet.config import CONFIGS, load_config
from hrnet.nets import pose as nets
from pth2onnx import parity, pose
from tests.support import coco_sets, tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with tiny_pose.yaml, tiny_pose.pth and model.onnx; exported with the flags of the model zoo."""
    folder = tmp_path_factory.mktemp("export")
    weights = tiny.write_pose_weights(folder)
    arguments = ["--cfg", folder / "tiny_pose.yaml", "--weights", weights, "--onnx_path", folder / "model.onnx"]
    assert pose.main([str(argument) for argument in arguments]) == 0
    return folder


def test_the_file_has_this_interface_and_these_operators(exported):
    model = onnx.load(exported / "model.onnx")
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "input": ["batch", 3, "height", "width"],
        "output1": ["batch", 34, "output1_height", "output1_width"],
        "output2": ["batch", 17, "output2_height", "output2_width"],
    }
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    operators = [node.op_type for node in model.graph.node]
    assert set(operators) == {"Conv", "ConvTranspose", "Relu", "Add", "Resize", "Concat", "Constant"}
    assert operators.count("Concat") == 1
    (doubling,) = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    assert len(doubling.input) == 3, "the folded batch norm is its bias"


def test_the_record_has_the_parity_at_each_size(exported):
    record = json.loads((exported / "model.onnx.json").read_text(encoding="utf-8"))
    assert (record["metadata"]["model"], record["metadata"]["opset"]) == ("tiny_pose", "11")
    assert record["inputs"] == [[1, 3, 96, 64], [1, 3, 64, 64], [1, 3, 64, 128], [2, 3, 64, 64]]
    assert 0 <= record["max_abs_difference"] <= record["tolerance"] / 10


def test_maps_of_any_size_equal_torch(exported):
    images = [parity.images_like(2, size, [0.5] * 3, [0.2] * 3, seed=1) for size in ((64, 64), (160, 32), (64, 96))]
    result = parity.check_parity(tiny.build_pose(exported), exported / "model.onnx", images)
    assert result.max_abs_difference <= result.tolerance / 10


def test_parity_is_compared_at_these_sizes(tmp_path):
    gears = [(1, [512, 1024]), (1, [512, 512]), (1, [1024, 512]), (2, [512, 512])]
    assert pose.compared_sizes(load_config(CONFIGS / "higher_hrnet_w32_512.yaml")) == gears
    path = tmp_path / "upstream.yaml"
    path.write_text("MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 640}\n" + coco_sets.DECODING)
    without_gears = [(1, [640, 704]), (1, [640, 640]), (1, [704, 640]), (2, [640, 640])]
    assert pose.compared_sizes(load_config(path)) == without_gears


def test_invalid_weights_and_configs_are_rejected(exported, tmp_path, capsys):
    files = ["--weights", str(exported / "tiny_pose.pth"), "--output", str(tmp_path / "model.onnx")]
    assert pose.main(["--cfg", "hrnet_w18", *files]) == 2
    assert "MODEL.NAME (expected pose_higher_hrnet, found cls_hrnet)" in capsys.readouterr().err
    assert pose.main(files) == 2
    line = capsys.readouterr().err
    assert "tiny_pose.pth: weights of another model: " in line
    assert "conv1.weight [8, 3, 3, 3] for [64, 3, 3, 3]" in line, "the default config is the model zoo's"
    assert list(tmp_path.iterdir()) == []


def test_lost_parity_leaves_no_file(exported, tmp_path, capsys, monkeypatch):
    untrained = nets.build(load_config(exported / "tiny_pose.yaml")).eval()
    monkeypatch.setattr(pose, "TASK", replace(pose.TASK, fold=lambda net: pose.fold(untrained)))
    files = ["--weights", str(exported / "tiny_pose.pth"), "--output", str(tmp_path / "model.onnx")]
    assert pose.main(["--cfg", str(exported / "tiny_pose.yaml"), *files]) == 1
    assert "outputs of the ONNX file differ from PyTorch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
