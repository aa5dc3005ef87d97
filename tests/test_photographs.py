"""HRNet-W18 on 200 real photographs: the chain against torch and PIL, which share no code with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ROOT.parent / "shared/data/imagenet"
LOGIT_TOLERANCE = 1e-4  # float32 sums in another order differ by some 2e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="../shared/data/imagenet is not there"),
]


def python(*arguments: object) -> None:
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights, the inputs of all photographs, and torch's own logits on them."""
    place = tmp_path_factory.mktemp("photographs")
    weights, manifest = place / "w18.pth", place / "prep/manifest.json"
    cfg = "configs/hrnet_w18.yaml"
    python("benchmarks.seeded_checkpoint", "--cfg", cfg, "--images", PHOTOGRAPHS / "val", "--output", weights)
    python("preprocess.imagenet", "hrnet_w18", PHOTOGRAPHS, place / "prep")
    evaluate = ["--cfg", cfg, "--weights", weights, "--manifest", manifest, "--dataset", PHOTOGRAPHS]
    python("train.evaluate", *evaluate, "--output", place / "torch.json", "--logits", place / "torch.npy")
    python("pth2onnx.classification", "--cfg", cfg, "--input", weights, "--output", place / "model.onnx")
    return place


@pytest.mark.parametrize("batch", [1, 16])  # 200 is no multiple of 16
def test_outputs_equal_torch_and_pil(place: Path, batch: int) -> None:
    model, out = place / f"bs{batch}.onnx", place / "out"
    python("atc.convert", "--model", place / "model.onnx", "--output", model, "--batch", batch)
    tag = ["--output", out, "--output_dirname", f"bs{batch}"]
    python("infer.run", "--model", model, "--input", place / "prep", *tag)
    stems = [image["stem"] for image in json.loads((place / "prep/manifest.json").read_text())["images"]]
    found = np.stack([np.fromfile(out / f"bs{batch}" / f"{stem}_0.bin", np.float32) for stem in stems])
    expected = np.load(place / "torch.npy")
    assert found.shape == expected.shape == (200, 1000)
    assert np.abs(found - expected).max() < LOGIT_TOLERANCE
    assert len(set(expected.argmax(axis=1))) > 10, "one class for everything would prove nothing"
    ours, torchs = (np.argsort(-logits, axis=1, kind="stable")[:, :5] for logits in (found, expected))
    for row, (mine, theirs) in enumerate(zip(ours, torchs)):
        # Where the lists differ, the logits that changed places lie within the tolerance of each other.
        gaps = np.abs(expected[row, mine] - expected[row, theirs])
        assert (gaps[mine != theirs] < LOGIT_TOLERANCE).all(), stems[row]

    evaluate = ["--cfg", "configs/hrnet_w18.yaml", "--manifest", place / "prep/manifest.json"]
    held = ["--run", out / f"bs{batch}_run.json", "--reference", place / "torch.json"]
    metrics = place / f"bs{batch}.json"
    python("postprocess.topn", *evaluate, *held, "--output", metrics)
    record, reference = (json.loads(path.read_text()) for path in (metrics, place / "torch.json"))
    assert record["metrics"] == pytest.approx(reference["metrics"], abs=0.5 + 1e-9), "one image of 200 may swap"
    assert record["verdict"] == "pass"
    assert record["counts"] == {"inputs": 200, "outputs": 200, "evaluated": 200, "rejected": 0}
