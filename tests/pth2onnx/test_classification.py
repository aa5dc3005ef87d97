"""pth2onnx/classification.py: interface, graph and metadata of the file, errors, and reruns."""

from __future__ import annotations

import json
import os
import re
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hrnet.config import CONFIGS, config_sha256, load_config
from hrnet.io import stamp
from hrnet.io.files import sha256_file
from hrnet.nets import checkpoint
from hrnet.nets import classification as nets
from pth2onnx import classification, parity
from tests.support import tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with tiny.yaml, tiny.pth and out/model.onnx; exported with the flags of the model zoo."""
    folder = tmp_path_factory.mktemp("export")
    weights = tiny.write_weights(folder)
    arguments = ["--cfg", folder / "tiny.yaml", "--input", weights, "--output", folder / "out" / "model.onnx"]
    assert classification.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def model(exported):
    return onnx.load(exported / "out" / "model.onnx")


@pytest.fixture
def copies(model, monkeypatch):
    """Replace the exporter by one that copies the graph of `exported`, for tests that do not check the graph."""

    def write(net, image, metadata, file):
        onnx.helper.set_model_props(model, metadata)
        file.write_bytes(model.SerializeToString())

    monkeypatch.setattr("pth2onnx.export.onnx_writer", lambda interface, opset: write)


def export(folder, output, *more) -> int:
    files = ["--cfg", str(folder / "tiny.yaml"), "--weights", str(folder / "tiny.pth"), "--output", str(output)]
    return classification.main([*files, *map(str, more)])  # of two --cfg or --weights, argparse uses the last


def test_the_file_has_this_interface_and_these_operators(model):
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["batch", 3, 64, 64], "class": ["batch", 7]}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "Relu", "Add", "Resize", "GlobalAveragePool", "Flatten", "Gemm", "Constant"}


def test_the_file_has_metadata_and_a_record(exported, model):
    path = exported / "out" / "model.onnx"
    metadata = {
        "model": "tiny",
        "config_sha256": config_sha256(load_config(exported / "tiny.yaml")),
        "weights_sha256": sha256_file(exported / "tiny.pth"),
        "torch_version": torch.__version__,
        "opset": "11",
    }
    assert {entry.key: entry.value for entry in model.metadata_props} == metadata
    record = json.loads((exported / "out" / "model.onnx.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["inputs"]) == ("export", [[n, 3, 64, 64] for n in (1, 2, 5)])
    assert (record["model_sha256"], record["metadata"]) == (sha256_file(path), metadata)
    assert 0 <= record["max_abs_difference"] < 1e-5 <= record["tolerance"]
    assert record["cosine"] == pytest.approx(1, abs=1e-6)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    names = [".model.onnx.stamp", "model.onnx", "model.onnx.json"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == names


def test_another_opset_is_exported_and_reported(exported, tmp_path, capsys):
    assert export(exported, tmp_path / "model.onnx", "--opset", "13") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"wrote {tmp_path / 'model.onnx'} (opset 13, 0.1 M parameters, difference ")
    assert re.search(r"difference \de-0\d of \de-0\d allowed, cosine 1\.000000\)", printed.out)
    assert printed.err == "", "torch's warnings about its older exporter are silenced"
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 13


@pytest.mark.parametrize("mode", ["round_prefer_floor", "round_prefer_ceil"])
def test_resize_is_the_same_with_half_pixels(exported, model, mode):
    """ATC may compile a Resize of mode `nearest` with half-pixel rules; with integer factors its values stay equal."""
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Resize" else ():
            if attribute.name == "coordinate_transformation_mode":
                attribute.s = b"half_pixel"
            elif attribute.name == "nearest_mode":
                attribute.s = mode.encode()
    image = parity.images_like(2, (64, 64), [0.5] * 3, [0.2] * 3, seed=3)
    results = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
        for source in (str(exported / "out" / "model.onnx"), model.SerializeToString())
    ]
    assert np.array_equal(*results)


def test_invalid_weights_and_configs_are_rejected(exported, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    assert export(exported, output, "--weights", "none.pth") == 2
    assert "none.pth: no such checkpoint" in capsys.readouterr().err
    assert export(exported, output, "--cfg", CONFIGS / "demo_digits.yaml") == 2
    line = capsys.readouterr().err
    assert "tiny.pth: weights of another model: " in line and "conv1.weight [8, 3, 3, 3] for [16, 3, 3, 3]" in line
    assert export(exported, output, "--cfg", "demo_pose") == 2
    assert "MODEL.NAME (expected cls_hrnet" in capsys.readouterr().err
    for opset in ("10", "19"):
        with pytest.raises(SystemExit):
            export(exported, output, "--opset", opset)
        assert f"argument --opset: expected an integer from 11 to 18, found '{opset}'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_lost_parity_keeps_an_older_file(exported, copies, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parity, "compare", lambda expected, found: (np.array([0.25]), np.array([0.5])))
    output = tmp_path / "model.onnx"
    for older in (False, True):
        assert export(exported, output) == 1
        assert "found 2.50e-01, cosine 0.500000" in capsys.readouterr().err
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"older"] if older else [])
        output.write_bytes(b"older")


def test_a_rerun_exports_only_after_a_relevant_change(exported, copies, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pth2onnx.export.check_parity", lambda *files: parity.Parity(0.0, 1.0, 1.0, []))
    output = tmp_path / "model.onnx"

    def rerun(*more) -> bool:
        """Whether the stage did its work again."""
        assert export(exported, output, *more) == 0
        return capsys.readouterr().out.startswith("wrote ")

    assert rerun()
    before = output.read_bytes()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert not rerun() and output.read_bytes() == before
    assert output.stat().st_mtime > 0 and (tmp_path / "model.onnx.json").stat().st_mtime > 0
    assert rerun("--opset", "12")
    other = tmp_path / "other.pth"
    torch.manual_seed(1)
    checkpoint.save(nets.build(load_config(exported / "tiny.yaml")).eval(), other)
    given = ("--opset", "12", "--weights", other)
    assert rerun(*given)
    (tmp_path / "model.onnx.json").unlink()
    assert rerun(*given)
    before = output.read_bytes()
    output.write_bytes(before[:-1])
    assert rerun(*given) and output.read_bytes() == before
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: "another")
    assert rerun(*given) and not rerun(*given)
