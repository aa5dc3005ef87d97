"""pth2onnx/static.py: the batch size or the gears in a TorchScript file's record; pixel inputs; errors; reruns."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from hrnet.config import load_config
from hrnet.io import stamp
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.torchscript import read_metadata
from pth2onnx import parity, static
from tests.support import tiny


@pytest.fixture(scope="module")
def exported(torchscript_files):
    return torchscript_files


def call(cfg, model, output, *more) -> int:
    return static.main(["--cfg", str(cfg), "--model", str(model), "--output", str(output), *more])


def test_the_record_has_the_batch_size(exported, tmp_path):
    model, output = exported / "model.ts", tmp_path / "om/bs4.ts"
    assert call(exported / "tiny.yaml", model, output, "--batch_size", "4") == 0
    compiled = CompiledModel.read(output)
    assert compiled.inputs == [TensorInfo("image", "float32", [4, 3, 64, 64])]
    assert compiled.outputs == [TensorInfo("class", "float32", [4, tiny.CLASSES])]
    assert (compiled.tool, compiled.gears) == ("pth2onnx.static", [])
    assert compiled.command[:4] == ["python", "-m", "pth2onnx.static", "--cfg"] and compiled.command[-1] == "4"
    assert compiled.metadata == {**read_metadata(model), "torchscript.precision": "fp32"}
    assert compiled.source_sha256 == compiled.model_sha256 == sha256_file(output), "a copy"


def test_the_record_has_the_gears(exported, tmp_path):
    output = tmp_path / "pose.ts"
    assert call(exported / "tiny_pose.yaml", exported / "pose.ts", output, "--batch_size", "1") == 0
    compiled = CompiledModel.read(output)
    assert compiled.inputs == [TensorInfo("input", "float32", [1, 3, -1, -1])]
    names = ["output1", "output2"]
    shapes = [[1, 2 * tiny.JOINTS, -1, -1], [1, tiny.JOINTS, -1, -1]]
    assert compiled.outputs == [TensorInfo(name, "float32", shape) for name, shape in zip(names, shapes)]
    assert compiled.gears[2] == Gear([1, 3, 64, 128], [[1, 34, 16, 32], [1, 17, 32, 64]])
    assert [gear.input[2:] for gear in compiled.gears] == tiny.GEARS


@pytest.mark.parametrize("name, cfg", [("model", "tiny"), ("pose", "tiny_pose")])
def test_outputs_of_pixels_equal_those_of_normalised_images(exported, tmp_path, name, cfg):
    output, config = tmp_path / "pixels.ts", load_config(exported / f"{cfg}.yaml")
    flags = ["--batch_size", "1", "--input_dtype", "uint8"]
    assert call(exported / f"{cfg}.yaml", exported / f"{name}.ts", output, *flags) == 0
    free = [64, 64] if name == "model" else [-1, -1]
    assert CompiledModel.read(output).inputs[0].shape == [1, *free, 3]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    normal = ((pixels / np.float32(255) - config.INPUT.MEAN) / config.INPUT.STD).astype(np.float32)
    found = parity.KINDS["TorchScript"](output)(pixels)
    expected = parity.KINDS["TorchScript"](exported / f"{name}.ts")(normal.transpose(0, 3, 1, 2).copy())
    for mine, theirs in zip(found, expected):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_a_file_of_another_tool_is_accepted(exported, tmp_path):
    """The model zoo's export.py neither freezes nor writes metadata."""
    layers = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, tiny.CLASSES)]
    net = torch.nn.Sequential(*layers).eval()
    with parity.torchscript_warnings():
        torch.jit.save(torch.jit.trace(net, torch.ones(1, 3, 64, 64)), str(tmp_path / "hrnet.pt"))
    assert call(exported / "tiny.yaml", tmp_path / "hrnet.pt", tmp_path / "bs2.ts", "--batch_size", "2") == 0
    compiled = CompiledModel.read(tmp_path / "bs2.ts")
    with parity.torchscript_warnings():
        assert not list(torch.jit.load(str(tmp_path / "bs2.ts")).parameters()), "frozen"
    assert compiled.metadata == {"torchscript.precision": "fp32"} and compiled.inputs[0].shape == [2, 3, 64, 64]


def test_the_record_for_torch_aie_names_the_chip(exported, tmp_path):
    for precision, recorded in (("default", "fp16"), ("fp32", "fp32")):
        flags = ["--backend", "torch_aie", "--soc_version", "Ascend310P3", "--precision", precision]
        assert call(exported / "tiny.yaml", exported / "model.ts", tmp_path / "m.ts", *flags) == 0
        metadata = CompiledModel.read(tmp_path / "m.ts").metadata
        assert metadata["torchscript.precision"] == recorded and metadata["torchscript.soc_version"] == "Ascend310P3"


def error_of(capsys, *arguments) -> str:
    assert call(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("pth2onnx.static: error: ") and line.count("\n") == 1
    return line


def test_files_that_do_not_fit_are_rejected(exported, tmp_path, capsys):
    cfg, model, pose, output = (exported / name for name in ("tiny.yaml", "model.ts", "tiny_pose.yaml", "x.ts"))
    line = error_of(capsys, cfg, exported / "tiny.pth", output)
    assert "not a TorchScript file" in line and f"make torchscript WEIGHTS={exported}/tiny.pth\n" in line
    line = error_of(capsys, "demo_digits", model, output)
    assert "model.ts: " in line and "(expected configs/demo_digits.yaml, found tiny)" in line
    assert "x.onnx: " in error_of(capsys, cfg, model, tmp_path / "x.onnx")
    line = error_of(capsys, pose, exported / "pose.ts", output, "--batch_size", "2")
    assert "--batch_size for a model with gears (expected 1, found 2)" in line
    line = error_of(capsys, cfg, model, output, "--input_dtype", "uint8", "--precision", "fp16")
    assert "(expected float32, found uint8)" in line and "INPUT=float32" in line
    line = error_of(capsys, pose, exported / "pose.ts", output, "--batch_size", "1", "--backend", "torch_aie")
    assert "torch_aie" in line and "found float32 inputs of pose_higher_hrnet" in line
    assert not output.exists()


def test_a_model_of_another_shape_without_metadata_is_rejected(exported, tmp_path, capsys):
    class Bare(torch.nn.Module):
        def forward(self, image):
            return image.mean((2, 3))

    with parity.torchscript_warnings():
        torch.jit.save(torch.jit.script(Bare()), str(tmp_path / "bare.pt"))
        torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 2), torch.ones(1, 4)), str(tmp_path / "other.pt"))
    cfg, output = exported / "tiny.yaml", tmp_path / "x.ts"
    line = error_of(capsys, cfg, tmp_path / "bare.pt", output)
    assert "bare.pt: " in line and "(expected [[1, 7]], found [[1, 3]])" in line
    line = error_of(capsys, cfg, tmp_path / "other.pt", output)
    assert "other.pt: torch cannot run the model with input shape [1, 3, 64, 64]: RuntimeError: mat1 and mat2" in line
    path = tmp_path / "cut.ts"
    path.write_bytes((exported / "model.ts").read_bytes()[:5000])
    assert "cut.ts: not a TorchScript file" in error_of(capsys, cfg, path, output)
    assert not output.exists() and not (tmp_path / "x.ts.json").exists()


def test_a_rerun_writes_again_only_after_a_relevant_change(exported, tmp_path, capsys, monkeypatch):
    output = tmp_path / "bs4.ts"

    def rerun(*more) -> bool:
        """Whether the stage did its work again."""
        assert call(exported / "tiny.yaml", exported / "model.ts", output, *more) == 0
        return capsys.readouterr().out.startswith("wrote ")

    assert rerun()
    before = output.read_bytes()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert not rerun("--soc_version", "Ascend910A"), "only for torch_aie"
    assert output.read_bytes() == before and output.stat().st_mtime > 0
    assert rerun("--batch_size", "2") and rerun("--precision", "fp16") and rerun("--input_dtype", "uint8") and rerun()
    output.write_bytes(b"damaged")
    assert rerun() and output.read_bytes() == before
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: "another")
    assert rerun() and not rerun()


def test_a_failed_write_keeps_an_older_file(exported, tmp_path, monkeypatch):
    output = tmp_path / "bs4.ts"
    assert call(exported / "tiny.yaml", exported / "model.ts", output, "--batch_size", "4") == 0
    before = json.loads((tmp_path / "bs4.ts.json").read_text())

    def fail(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(static.shutil, "copyfile", fail)
    assert call(exported / "tiny.yaml", exported / "model.ts", output, "--batch_size", "2") == 2
    assert json.loads((tmp_path / "bs4.ts.json").read_text()) == before and CompiledModel.read(output)
