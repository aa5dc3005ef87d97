"""One checkpoint exported to ONNX and to TorchScript, for both tasks: the outputs of infer are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atc.emulator import main as atc
from hrnet.io.files import make_folder
from hrnet.io.tensors import write_output
from infer.emulator import main
from pth2onnx import classification, pose, static
from pth2onnx.parity import images_like
from tests.support import tiny

IMAGES = 5


@pytest.fixture
def files(torchscript_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of configs, weights and TorchScript files; products go to the current directory."""
    monkeypatch.chdir(tmp_path)
    return torchscript_files


def write_inputs(shapes: list[list[int]], suffix: str) -> None:
    """Seeded images as inputs of these (height, width)."""
    make_folder("in")
    for i in range(IMAGES):
        height, width = shapes[i % len(shapes)]
        image = images_like(1, (width, height), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], seed=i)
        write_output(Path(f"in/img{i}.{suffix}"), image if suffix == "npy" else image[0])


def infer(runtime: str, model: str, *more: str) -> dict[str, np.ndarray]:
    words = ["--model", model, "--input", "in", "--output", "out", "--output_dirname", runtime, "--runtime", runtime]
    make_folder("out")
    assert main.main([*words, "--outfmt", "NPY", *more]) == 0
    return {file.name: np.load(file) for file in sorted(Path("out", runtime).iterdir())}


def compare(*more: str) -> dict[str, np.ndarray]:
    """Compare both runtimes' outputs; return those of TorchScript."""
    expected, found = infer("onnxruntime", "m.onnx", *more), infer("torchscript", "om.ts", *more)
    assert found.keys() == expected.keys()
    for name, mine in found.items():
        np.testing.assert_allclose(mine, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())
    return found


def test_classification_outputs_of_both_exports_are_equal(files: Path) -> None:
    """Five images, with a batch size of two."""
    cfg = ["--cfg", str(files / "tiny.yaml")]
    assert classification.main([*cfg, "--weights", str(files / "tiny.pth"), "--output", "model.onnx"]) == 0
    shape = f"--input_shape=image:2,3,{tiny.SIDE},{tiny.SIDE}"
    assert atc.main(["--framework=5", "--model=model.onnx", shape, "--output=m", "--soc_version=Ascend310P3"]) == 0
    assert static.main([*cfg, "--model", str(files / "model.ts"), "--output", "om.ts", "--batch_size", "2"]) == 0
    write_inputs([[tiny.SIDE, tiny.SIDE]], "bin")
    logits = np.concatenate(list(compare().values()))
    expected = np.concatenate([np.load(f"out/onnxruntime/img{i}_0.npy") for i in range(IMAGES)])
    assert logits.shape == (IMAGES, tiny.CLASSES) and logits.std(axis=0).max() > 1e-2, "the images differ"
    assert (np.argsort(-logits) == np.argsort(-expected)).all()


def test_pose_outputs_of_both_exports_are_equal_at_gears(files: Path) -> None:
    cfg = ["--cfg", str(files / "tiny_pose.yaml")]
    assert pose.main([*cfg, "--weights", str(files / "tiny_pose.pth"), "--output", "model.onnx"]) == 0
    dims = ";".join(f"{height},{width}" for height, width in tiny.GEARS)
    flags = ["--input_format=ND", "--input_shape=input:1,3,-1,-1", f"--dynamic_dims={dims}", "--output=m"]
    assert atc.main(["--framework=5", "--model=model.onnx", *flags, "--soc_version=Ascend310P3"]) == 0
    assert static.main([*cfg, "--model", str(files / "pose.ts"), "--output", "om.ts", "--batch_size", "1"]) == 0
    write_inputs(tiny.GEARS, "npy")
    found = compare("--auto_set_dymdims_mode", "1", "--flip", "1")
    assert found["img2_1.npy"].shape == (1, tiny.JOINTS, 32, 64)
