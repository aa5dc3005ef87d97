"""HRNet-W18 on 200 real images: the pipeline against torch and Pillow, which share no code with the pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.real_images import IMAGENET, needs_imagenet

CFG = "configs/hrnet_w18.yaml"
LOGIT_TOLERANCE = 1e-4  # float32 sums in another order differ by some 2e-5

pytestmark = [
    pytest.mark.slow,
    needs_imagenet,
]


def python(*arguments: object) -> None:
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, the inputs of all images, and torch's logits for them."""
    place = tmp_path_factory.mktemp("images")
    weights, manifest = place / "w18.pth", place / "prep/manifest.json"
    python("benchmarks.seeded_checkpoint", "--cfg", CFG, "--images", IMAGENET / "val", "--output", weights)
    preprocess(place / "prep", "float32")
    evaluate = ["--cfg", CFG, "--weights", weights, "--manifest", manifest, "--dataset", IMAGENET]
    python(
        "train.classification.reference", *evaluate, "--output", place / "torch.json", "--logits", place / "torch.npy"
    )
    python("pth2onnx.classification", "--cfg", CFG, "--weights", weights, "--output", place / "model.onnx")
    return place


def preprocess(output: Path, dtype: str) -> None:
    python("preprocess.classification", "--cfg", CFG, "--dataset", IMAGENET, "--output", output, "--input_dtype", dtype)


def stems(place: Path) -> list[str]:
    return [image["stem"] for image in json.loads((place / "prep/manifest.json").read_text())["images"]]


def infer(place: Path, name: str, prep: str, *options: object) -> np.ndarray:
    """The logits [200, 1000] of the inputs in `prep` by a model compiled with `options`."""
    model = place / f"{name}.onnx"
    python("atc.convert", "--cfg", CFG, "--model", place / "model.onnx", "--output", model, *options)
    return run(place, model, prep)


def run(place: Path, model: Path, prep: str, *options: object) -> np.ndarray:
    out = place / "out" / model.stem
    python("infer.run", "--model", model, "--inputs", place / prep, "--output", out, *options)
    return np.stack([np.fromfile(out / f"{stem}_0.bin", np.float32) for stem in stems(place)])


def test_uint8_is_as_good_as_float32(place: Path) -> None:
    """The same Top-1 for each image in a quarter of the bytes; with float16 inside, equal logits."""
    preprocess(place / "pixels", "uint8")
    logits = {
        (precision, dtype): infer(place, f"{precision}-{dtype}", prep, "--precision", precision, "--input_dtype", dtype)
        for precision in ("fp32", "fp16")
        for dtype, prep in {"float32": "prep", "uint8": "pixels"}.items()
    }
    found, expected = logits["fp32", "uint8"], logits["fp32", "float32"]
    worst = np.abs(found - expected).max()
    print(f"the largest difference of a logit is {worst:.1e}")
    assert 0 < worst < LOGIT_TOLERANCE
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    np.testing.assert_array_equal(logits["fp16", "uint8"], logits["fp16", "float32"])
    small, large = (sum(file.stat().st_size for file in (place / name).glob("*.bin")) for name in ("pixels", "prep"))
    assert (small, large) == (200 * 224 * 224 * 3, 4 * small)


@pytest.mark.parametrize("batch", [1, 16])  # 200 is not a multiple of 16
def test_outputs_equal_torch_and_pil(place: Path, batch: int) -> None:
    found = infer(place, f"bs{batch}", "prep", "--batch_size", batch)
    expected = np.load(place / "torch.npy")
    assert found.shape == expected.shape == (200, 1000)
    assert np.abs(found - expected).max() < LOGIT_TOLERANCE
    assert len(set(expected.argmax(axis=1))) > 10, "equal classes would prove nothing"
    ours, theirs = (np.argsort(-logits, axis=1, kind="stable")[:, :5] for logits in (found, expected))
    for row, (mine, other) in enumerate(zip(ours, theirs)):
        # Where the lists differ, the exchanged logits are within the tolerance of each other.
        gaps = np.abs(expected[row, mine] - expected[row, other])
        assert (gaps[mine != other] < LOGIT_TOLERANCE).all(), stems(place)[row]

    evaluate = ["--cfg", CFG, "--manifest", place / "prep/manifest.json"]
    held = ["--run", place / f"out/bs{batch}_run.json", "--reference", place / "torch.json"]
    metrics = place / f"bs{batch}.json"
    python("postprocess.classification", *evaluate, *held, "--output", metrics)
    record, reference = (json.loads(path.read_text()) for path in (metrics, place / "torch.json"))
    assert record["metrics"] == pytest.approx(reference["metrics"], abs=0.5 + 1e-9), "one image of 200 may swap"
    assert record["verdict"] == "pass"
    assert record["counts"] == {"inputs": 200, "outputs": 200, "evaluated": 200, "rejected": 0}


def test_torchscript_equals_torch(place: Path) -> None:
    """Also for uint8 inputs, which the model normalises itself."""
    model = place / "model.ts"
    python("pth2onnx.torchscript", "--cfg", CFG, "--weights", place / "w18.pth", "--output", model)
    expected = np.load(place / "torch.npy")
    for prep, dtype in (("prep", "float32"), ("pixels", "uint8")):
        if not (place / prep).is_dir():
            preprocess(place / prep, dtype)
        compiled = place / f"{dtype}.ts"
        given = ["--model", model, "--output", compiled, "--batch_size", 8, "--input_dtype", dtype]
        python("pth2onnx.static", "--cfg", CFG, *given)
        found = run(place, compiled, prep, "--backend", "torchscript")
        worst = np.abs(found - expected).max()
        print(f"{dtype}: the largest difference of a logit is {worst:.1e}")
        assert 0 < worst < LOGIT_TOLERANCE
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
