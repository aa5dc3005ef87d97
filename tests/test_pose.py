"""A small HigherHRNet from its checkpoint to outputs on disk, with the emulators and with fake atc and ais_bench."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from atc import convert
from hrnet.config import load_config
from hrnet.io import tensors
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from pth2onnx import pose
from tests.support import ROOT, fakes, tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose")
    weights, cfg = tiny.write_pose_weights(folder), folder / "tiny_pose.yaml"
    assert pose.main(["--cfg", str(cfg), "--weights", str(weights), "--output", str(folder / "model.onnx")]) == 0
    return folder


def prepare(cfg: Path, dtype: str) -> list[np.ndarray]:
    """An image of each gear as `in/img<i>.npy`, with their manifest; returns them as normalised planes."""
    config = load_config(cfg)
    mean, std = np.array(config.INPUT.MEAN), np.array(config.INPUT.STD)
    entries, planes = [], []
    make_folder("in")
    for i, (height, width) in enumerate(config.INPUT.GEARS):
        pixels = np.random.default_rng(i).integers(0, 256, (1, height, width, 3), np.uint8)
        planes.append(np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)))
        given = pixels if dtype == "uint8" else planes[-1]
        tensors.write_output(f"in/img{i}.npy", given)
        entries.append(InputImage(f"img{i}", f"val/img{i}.jpg", None, 8, 8, list(given.shape[1:]), i, [4, 4], [1, 1]))
    layout = {"float32": "NCHW", "uint8": "NHWC"}[dtype]
    Manifest("coco", "c" * 64, "d" * 64, dtype, layout, "npy", 1, 0, entries).write("in/manifest.json")
    return planes


@pytest.mark.usefixtures("emulators_in_process")
@pytest.mark.parametrize(
    "backend, dtype", [("onnxruntime", "float32"), ("onnxruntime", "uint8"), ("ascend", "float32"), ("ascend", "uint8")]
)
def test_outputs_equal_torch(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, dtype: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fakes.atc(tmp_path)
    fakes.ais_python(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cfg, om = exported / "tiny_pose.yaml", "om/m.om" if backend == "ascend" else "om/m.onnx"
    planes = prepare(cfg, dtype)
    source = ["--model", str(exported / "model.onnx"), "--cfg", str(cfg), "--output", om, "--batch_size", "1"]
    assert convert.main([*source, "--input_dtype", dtype, "--backend", backend]) == 0
    where = ["--model", om, "--inputs", "in", "--output", "out/run"]
    assert infer_run.main([*where, "--backend", backend, "--ais_python", "./python_npu"]) == 0
    record = RunRecord.read("out/run_run.json")
    assert record.files == {f"img{i}": [f"img{i}_0.npy", f"img{i}_1.npy"] for i in range(len(planes))}
    net = tiny.build_pose(tmp_path)
    for i, image in enumerate(planes):
        with torch.inference_mode():
            expected = [output.numpy() for output in net(torch.from_numpy(image))]
        for k, maps in enumerate(expected):
            found = np.load(f"out/run/img{i}_{k}.npy")
            np.testing.assert_allclose(found, maps, rtol=0, atol=2e-5 * np.abs(maps).max())
