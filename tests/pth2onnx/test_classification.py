"""pth2onnx/classification.py: the file's interface, its graph, what it tells about itself, and what is refused."""

from __future__ import annotations

import json
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hrnet.config import CONFIGS, config_sha256, load_config
from hrnet.io.files import sha256_file
from pth2onnx import classification, parity
from tests import tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with tiny.yaml, tiny.pth and out/model.onnx."""
    folder = tmp_path_factory.mktemp("export")
    weights = tiny.write_weights(folder)
    arguments = ["--cfg", folder / "tiny.yaml", "--input", weights, "--output", folder / "out" / "model.onnx"]
    assert classification.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def model(exported):
    return onnx.load(exported / "out" / "model.onnx")


def test_interface(model):
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["batch", 3, 64, 64], "class": ["batch", 7]}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]


def test_the_graph_computes_no_shapes(model):
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "Relu", "Add", "Resize", "GlobalAveragePool", "Flatten", "Gemm", "Constant"}


def test_metadata_names_what_it_was_made_of(exported, model):
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told == {
        "model": "tiny",
        "config_sha256": config_sha256(load_config(exported / "tiny.yaml")),
        "weights_sha256": sha256_file(exported / "tiny.pth"),
        "torch_version": torch.__version__,
        "opset": "11",
    }


def test_the_record_holds_the_proof(exported):
    path = exported / "out" / "model.onnx"
    record = json.loads((exported / "out" / "model.onnx.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["inputs"]) == ("export", [[n, 3, 64, 64] for n in (1, 2, 5)])
    assert record["model_sha256"] == sha256_file(path)
    assert 0 <= record["max_abs_difference"] < 1e-4 <= record["tolerance"]
    assert record["cosine"] == pytest.approx(1, abs=1e-6)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["model.onnx", "model.onnx.json"]


def test_closing_line(exported, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    weights = exported / "tiny.pth"
    arguments = ["--cfg", str(exported / "tiny.yaml"), "--input", str(weights), "--output", str(output)]
    assert classification.main([*arguments, "--opset", "13"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"wrote {output} (opset 13, 0.1 M parameters, max |difference| ")
    assert told.out.endswith("cosine 1.000000)\n")
    assert told.err == ""  # torch's warnings about its older exporter are known and silenced


@pytest.mark.parametrize("mode", ["floor", "round_prefer_floor", "round_prefer_ceil"])
def test_resize_means_the_same_by_half_pixels(exported, model, mode):
    """ATC may lower nearest with half-pixel rules; by whole factors no value changes, however ties are rounded."""
    coordinates = "asymmetric" if mode == "floor" else "half_pixel"
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Resize" else ():
            if attribute.name == "coordinate_transformation_mode":
                attribute.s = coordinates.encode()
            elif attribute.name == "nearest_mode":
                attribute.s = mode.encode()
    image = parity.images_like(2, (64, 64), [0.5] * 3, [0.2] * 3, seed=3)
    results = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
        for source in (str(exported / "out" / "model.onnx"), model.SerializeToString())
    ]
    assert np.array_equal(*results)


def refuse(capsys, code, *arguments) -> str:
    assert classification.main([str(argument) for argument in arguments]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_weights_that_are_not_there(exported, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    line = refuse(capsys, 2, "--cfg", exported / "tiny.yaml", "--input", "none.pth", "--output", output)
    assert line == "pth2onnx.classification: error: none.pth: no checkpoint; put the file there, or name another\n"
    assert not output.exists()


def test_weights_of_another_model(exported, tmp_path, capsys):
    cfg, output = CONFIGS / "demo_digits.yaml", tmp_path / "model.onnx"
    line = refuse(capsys, 2, "--cfg", cfg, "--input", exported / "tiny.pth", "--output", output)
    assert "tiny.pth: does not fit the net" in line
    assert "conv1.weight [8, 3, 3, 3] for [16, 3, 3, 3]" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [10, 19])
def test_opset_out_of_range(exported, tmp_path, capsys, opset):
    files = ["--input", exported / "tiny.pth", "--output", tmp_path / "model.onnx"]
    line = refuse(capsys, 2, "--cfg", exported / "tiny.yaml", *files, "--opset", opset)
    assert f"--opset (expected 11 to 18, found {opset})" in line


def test_lost_parity_leaves_no_file(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parity, "compare", lambda expected, found: (0.25, 0.5))
    files = ["--input", exported / "tiny.pth", "--output", tmp_path / "model.onnx"]
    line = refuse(capsys, 1, "--cfg", exported / "tiny.yaml", *files)
    assert "failed: the ONNX file differs from torch by 2.50e-01" in line
    assert "cosine 0.500000" in line
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_survives_a_failed_export(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parity, "compare", lambda expected, found: (0.25, 0.5))
    output = tmp_path / "model.onnx"
    output.write_bytes(b"older")
    refuse(capsys, 1, "--cfg", exported / "tiny.yaml", "--input", exported / "tiny.pth", "--output", output)
    assert output.read_bytes() == b"older"
