"""atc/reference.py: hits, pixels by the documented formula, fixed batches, a background class, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from atc import classifier as completing
from atc import reference
from hrnet.io.tensors import read_output
from preprocess import classification
from tests.support.onnx_models import CLASSES, classifier, results, saved

IMAGES = 7
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: data/ with seven images, model.onnx, and mine.yaml completed in b/."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    Path("data/val").mkdir(parents=True)
    for number in range(IMAGES):
        Image.fromarray(random.integers(0, 256, (20, 26, 3), np.uint8)).save(f"data/val/{number}.png")
    Path("data/val_label.txt").write_text("".join(f"{number}.png {number % CLASSES}\n" for number in range(IMAGES)))
    Path("mine.yaml").write_text(f"MODEL: {{NAME: onnx}}\nINPUT: {{MEAN: {MEAN}, STD: {STD}}}\n")
    complete(classifier())
    return tmp_path


def complete(model: onnx.ModelProto) -> None:
    saved(Path(), model)
    assert completing.main(["--cfg", "mine.yaml", "--model", "model.onnx", "--output", "b/mine.yaml"]) == 0


def measure(dtype: str = "float32") -> dict[str, Any]:
    """Make the inputs of this dtype; return the record that atc.reference measures on them."""
    prepare = ["--cfg", "b/mine.yaml", "--dataset", "data", "--output", f"prep-{dtype}", "--input_dtype", dtype]
    assert classification.main(prepare) == 0
    assert call(dtype) == 0
    content: dict[str, Any] = json.loads(Path(f"ref/{dtype}.json").read_text())
    return content


def call(dtype: str = "float32") -> int:
    files = ["--manifest", f"prep-{dtype}/manifest.json", "--output", f"ref/{dtype}.json"]
    return reference.main(["--cfg", "b/mine.yaml", "--model", "model.onnx", *files])


def expected_hits(shift: int = 0) -> list[int]:
    """From onnxruntime on the float32 inputs, one at a time, with another sort."""
    hits = np.zeros(5, int)
    for number in range(IMAGES):
        scores = results(Path("model.onnx"), read_output(f"prep-float32/{number}.bin").reshape(1, 3, 16, 16))[0]
        rank = sorted(range(len(scores)), key=lambda c: -scores[c]).index(number % CLASSES + shift)
        hits[rank:] += 1
    return hits.tolist()


@pytest.mark.usefixtures("place")
def test_the_record() -> None:
    content = measure()
    assert content["hits"] == expected_hits() and content["images"] == IMAGES
    right = [best == number % CLASSES for number, best in enumerate(content["predicted"])]
    assert (len(right), sum(right)) == (IMAGES, content["hits"][0])
    assert content["metrics"]["top5"] == pytest.approx(100 * content["hits"][4] / IMAGES)
    assert content["kind"] == "metrics" and content["tool"].endswith(" in float32") and content["classes"] == CLASSES


@pytest.mark.usefixtures("place")
def test_uint8_inputs_give_the_same_hits() -> None:
    whole, pixels = measure(), measure("uint8")
    assert pixels["hits"] == whole["hits"] and pixels["images_sha256"] == whole["images_sha256"]


@pytest.mark.usefixtures("place")
def test_a_fixed_batch_is_filled() -> None:
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    free = measure()["hits"]
    complete(model)
    assert measure()["hits"] == free


@pytest.mark.usefixtures("place")
def test_a_background_class() -> None:
    config = Path("mine.yaml").read_text()
    Path("mine.yaml").write_text(config.replace("NAME: onnx", f"NAME: onnx, NUM_CLASSES: {CLASSES - 1}"))
    complete(classifier())
    content = measure()
    assert content["hits"] == expected_hits(shift=1)
    assert sum(best == number % CLASSES for number, best in enumerate(content["predicted"])) == content["hits"][0]


@pytest.mark.usefixtures("place")
def test_a_rerun_only_touches(capsys: pytest.CaptureFixture[str]) -> None:
    measure()
    before = Path("ref/float32.json").read_bytes()
    capsys.readouterr()
    assert call() == 0 and "is up to date" in capsys.readouterr().out
    repaired = next(Path("prep-float32").glob("*.bin"))
    repaired.write_bytes(repaired.read_bytes())
    assert call() == 0 and "wrote ref/float32.json" in capsys.readouterr().out, "an input was written again"
    saved(Path(), classifier(opset=12))
    assert call() == 0 and "wrote ref/float32.json" in capsys.readouterr().out
    assert Path("ref/float32.json").read_bytes() != before


@pytest.mark.usefixtures("place")
def test_changed_external_data_is_measured_again(capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(classifier(), "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert set(measure()["external_data"]) == {"w.bin"}
    capsys.readouterr()
    weights = np.fromfile("w.bin", np.uint8)
    weights[2] ^= 1
    weights.tofile("w.bin")
    assert call() == 0 and "wrote ref/float32.json" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_files_that_do_not_match_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    measure()
    Path("prep-float32/3.bin").write_bytes(bytes(8))
    saved(Path(), classifier(opset=12))
    assert call() == 2
    assert "prep-float32/3.bin" in capsys.readouterr().err
    Path("b/mine.yaml").write_text(Path("b/mine.yaml").read_text().replace("0.4", "0.45"))
    assert call() == 2
    assert "prep-float32/manifest.json: the inputs were made with another config" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_outputs_that_are_not_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    measure()
    model = classifier()
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(CLASSES, np.nan, np.float32), "bias"))
    saved(Path(), model)
    assert call() == 1
    assert "NaN" in capsys.readouterr().err
