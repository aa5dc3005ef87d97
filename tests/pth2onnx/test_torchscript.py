"""pth2onnx/torchscript.py: the frozen graph, parity at other sizes than the traced one, the record beside it."""

from __future__ import annotations

import json
import stat

import pytest
import torch

from hrnet.config import config_sha256, load_config
from hrnet.io.files import sha256_file
from hrnet.io.torchscript import read_metadata
from pth2onnx import parity, torchscript
from tests.support import tiny


@pytest.fixture(scope="module")
def exported(torchscript_files):
    return torchscript_files


@pytest.mark.parametrize("name", ["model", "pose"])
def test_the_graph_is_frozen(exported, name):
    with parity.torchscript_warnings():
        module = torch.jit.load(str(exported / f"{name}.ts"))
    operators = {node.kind() for node in module.graph.nodes()}
    assert "aten::_convolution" in operators and "aten::batch_norm" not in operators
    assert not list(module.parameters()), "the weights are constants"
    assert "aten::size" not in operators, "no shape of the traced image is in it"


SIZES = {"model": [(1, 64, 64), (3, 64, 64), (8, 64, 64)], "pose": [(1, 32, 160), (3, 96, 64)]}


@pytest.mark.parametrize(("name", "build"), [("model", tiny.build), ("pose", tiny.build_pose)])
def test_outputs_of_any_size_equal_torch(exported, name, build):
    images = [parity.images_like(n, (width, height), [0.5] * 3, [0.2] * 3, n) for n, height, width in SIZES[name]]
    result = parity.check_parity(build(exported).eval(), exported / f"{name}.ts", images, "TorchScript")
    assert result.max_abs_difference <= result.tolerance / 10


def test_the_file_has_metadata_and_a_record(exported):
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
    assert 0 <= record["max_abs_difference"] < 1e-5 <= record["tolerance"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_batch_size_that_is_fixed_in_the_graph_is_rejected(exported, tmp_path, capsys, monkeypatch):
    """Comparing at other sizes than the traced one finds it."""

    class Baked(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, image):
            return self.net(image)[:1].expand(image.shape[0], -1) + torch.zeros(1, tiny.CLASSES)

    freeze = torchscript.freeze
    monkeypatch.setattr(torchscript, "freeze", lambda net, image: freeze(Baked(net).eval(), image))
    files = ["--weights", str(exported / "tiny.pth"), "--output", str(tmp_path / "model.ts")]
    assert torchscript.main(["--cfg", str(exported / "tiny.yaml"), *files]) == 1
    assert "outputs of the TorchScript file differ from PyTorch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
