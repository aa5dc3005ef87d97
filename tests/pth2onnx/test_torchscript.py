"""pth2onnx/torchscript.py: the frozen graph, parity at other sizes than the traced one, the proof beside it."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch

from hrnet.config import CONFIGS, config_sha256, load_config
from hrnet.io import stamp
from hrnet.io.files import sha256_file
from hrnet.io.torchscript import read_metadata
from pth2onnx import parity, pose, torchscript
from tests import tiny


def export(cfg, weights, output) -> int:
    return torchscript.main(["--cfg", str(cfg), "--weights", str(weights), "--output", str(output)])


@pytest.fixture(scope="module")
def exported(torchscript_files):
    return torchscript_files


@pytest.mark.parametrize("name", ["model", "pose"])
def test_frozen_graph(exported, name):
    with parity.torchscript_warnings():
        module = torch.jit.load(str(exported / f"{name}.ts"))
    operators = {node.kind() for node in module.graph.nodes()}
    assert "aten::_convolution" in operators and "aten::batch_norm" not in operators
    assert not list(module.parameters()), "the weights are constants"
    assert "aten::size" not in operators, "no shape of the traced image is in it"


def test_logits_of_any_batch_size_equal_torch(exported):
    net, compute = tiny.build(exported).eval(), parity.KINDS["TorchScript"](exported / "model.ts")
    for batch in (1, 3, 8):
        image = parity.images_like(batch, (tiny.SIDE, tiny.SIDE), [0.5] * 3, [0.2] * 3, seed=batch)
        (found,), (expected,) = compute(image), parity.outputs_of(net, image)
        assert found.shape == (batch, tiny.CLASSES)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_maps_of_any_size_equal_torch(exported):
    net, compute = tiny.build_pose(exported).eval(), parity.KINDS["TorchScript"](exported / "pose.ts")
    for batch, height, width in ((1, 32, 160), (3, 96, 64)):
        image = parity.images_like(batch, (width, height), [0.5] * 3, [0.2] * 3, seed=height)
        found = compute(image)
        assert [list(output.shape[2:]) for output in found] == [[height // 4, width // 4], [height // 2, width // 2]]
        for wanted, got in zip(parity.outputs_of(net, image), found):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_metadata_and_record(exported):
    path = exported / "model.ts"
    metadata = {
        "model": "tiny",
        "config_sha256": config_sha256(load_config(exported / "tiny.yaml")),
        "weights_sha256": sha256_file(exported / "tiny.pth"),
        "torch_version": torch.__version__,
    }
    assert read_metadata(path) == metadata
    record = json.loads((exported / "model.ts.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["metadata"], record["tool"]) == ("export", metadata, f"torch {torch.__version__}")
    assert record["inputs"] == [[n, 3, 64, 64] for n in (1, 2, 5)]
    assert record["model_sha256"] == sha256_file(path)
    assert 0 <= record["max_abs_difference"] < 1e-4 <= record["tolerance"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_refusals(exported, tmp_path, capsys):
    output = tmp_path / "model.ts"
    assert export(exported / "tiny.yaml", "none.pth", output) == 2
    assert "none.pth: no such checkpoint" in capsys.readouterr().err
    assert export(CONFIGS / "demo_digits.yaml", exported / "tiny.pth", output) == 2
    assert "tiny.pth: does not fit the net" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_lost_parity_leaves_no_file(exported, tmp_path, capsys, monkeypatch):
    untrained = tiny.build_pose(tmp_path).eval()
    torch.nn.init.normal_(untrained.final_layers[0].weight)
    task = replace(pose.TASK, fold=lambda net: pose.fold(untrained))
    monkeypatch.setitem(torchscript.TASKS, task.name, task)
    output = tmp_path / "out/model.ts"
    assert export(exported / "tiny_pose.yaml", exported / "tiny_pose.pth", output) == 1
    assert "the TorchScript file differs from torch" in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


def test_a_rerun_only_touches_a_current_file(exported, tmp_path, capsys, monkeypatch):
    output = tmp_path / "model.ts"

    def rerun() -> bool:
        """Whether the stage did its work again."""
        assert export(exported / "tiny.yaml", exported / "tiny.pth", output) == 0
        return capsys.readouterr().out.startswith("wrote ")

    assert rerun()
    before = output.read_bytes()
    os.utime(output, (0, 0))
    assert not rerun() and output.read_bytes() == before and output.stat().st_mtime > 0
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: "another")
    assert rerun() and not rerun()


def test_a_batch_size_that_is_fixed_in_the_graph(exported, tmp_path, capsys, monkeypatch):
    """Comparing at other sizes than the traced one finds it."""

    class Baked(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, image):
            return self.net(image)[:1].expand(image.shape[0], -1) + torch.zeros(1, tiny.CLASSES)

    freeze = torchscript.freeze
    monkeypatch.setattr(torchscript, "freeze", lambda net, image: freeze(Baked(net).eval(), image))
    assert export(exported / "tiny.yaml", exported / "tiny.pth", tmp_path / "model.ts") == 1
    assert "the TorchScript file differs from torch" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
