"""compare.classification: the columns are equal to eval's metrics and to figures from numpy, changed images are listed,
files that do not belong together are rejected."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from compare import classification
from hrnet.images import to_input
from hrnet.io.records import read_record
from hrnet.io.tensors import write_output
from tests.compare.small_chain import IMAGES, arguments
from tests.support import onnx_models
from tests.support.errors import check_error

OUTPUT = "compare/stages.json"


def compare(name: str = "float32-fp16", **changes: object) -> int:
    given = {
        "cfg": "small.yaml",
        "manifest": f"in-{name.split('-')[0]}/manifest.json",
        "onnx": "m.onnx",
        "model": f"om/{name}.onnx",
        "run": f"out/{name}_run.json",
        "metrics": f"eval/{name}.json",
        "output": OUTPUT,
    }
    return classification.main(arguments(**{**given, **changes}))


def record() -> dict[str, Any]:
    return read_record(OUTPUT, "comparison")


def logits(values: np.ndarray) -> np.ndarray:
    """The logits of the ONNX file, float32 [N, classes]."""
    return onnxruntime.InferenceSession("m.onnx").run(None, {"image": values})[0]


def written(name: str) -> np.ndarray:
    """The outputs that infer wrote, float32 [IMAGES, classes]."""
    return np.stack([np.fromfile(f"out/{name}/img{i}_0.bin", np.float32) for i in range(IMAGES)])


def changed(before: np.ndarray, after: np.ndarray) -> list[tuple[str, int, int]]:
    pairs = zip(before.argmax(1).tolist(), after.argmax(1).tolist())
    return [(f"val/img{i}.JPEG", old, new) for i, (old, new) in enumerate(pairs) if old != new]


def listed(step: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(each["source"], each["from"], each["to"]) for each in step["changed"]]


@pytest.mark.parametrize("name", ["float32-fp32", "float32-fp16", "uint8-fp16"])
def test_the_last_column_is_equal_to_evals_metrics(folder: Path, name: str) -> None:
    assert compare(name) == 0
    found, metrics = record(), read_record(f"eval/{name}.json", "metrics")
    assert [column["name"] for column in found["columns"]] == ["ONNX", "compiled", "infer"]
    last = {key: value for key, value in found["columns"][-1].items() if key.startswith("top")}
    assert last == pytest.approx(metrics["metrics"])
    assert found["images"] == metrics["images"] == IMAGES
    assert found["columns"][-1]["hits"] == [round(IMAGES * value / 100) for value in metrics["metrics"].values()]


def test_torchscript_has_no_table_of_operators(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("", ".json"):
        shutil.copy(f"om/float32-fp32.onnx{ending}", f"m.ts{ending}")
    assert compare("float32-fp32", model="m.ts") == 0
    assert [column["name"] for column in record()["columns"]] == ["ONNX", "infer"]
    assert "no table of operators for TorchScript" in capsys.readouterr().out


def test_figures_are_equal_to_numpys(folder: Path) -> None:
    """torch's inputs are other values, so that the classes of some images change."""
    images = onnx_models.images(IMAGES, 32)
    torch = logits(images + np.float32(0.5))
    write_output(Path("torch.npy"), torch)
    assert compare(torch_images="torch.npy", torch_inputs="torch.npy") == 0
    by_onnx, by_infer = logits(images), written("float32-fp16")
    steps = record()["steps"]
    names = ["torch images", "torch inputs", "ONNX", "compiled", "infer"]
    assert [(step["from"], step["to"]) for step in steps] == list(zip(names, names[1:]))
    assert changed(torch, by_onnx), "the test needs a changed class"
    pairs = [(torch, torch), (torch, by_onnx), (by_onnx, by_infer), (by_infer, by_infer)]
    for step, (before, after) in zip(steps, pairs):
        assert listed(step) == changed(before, after)
        difference = np.abs(before.astype(np.float64) - after)
        assert step["max"] == pytest.approx(difference.max(), rel=1e-4, abs=1e-6)
        assert step["mean"] == pytest.approx(difference.mean(), rel=1e-4, abs=1e-6)
        a, b = before.ravel().astype(np.float64), after.ravel().astype(np.float64)
        assert step["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)
        assert step["not_finite"] == 0
    labels = np.arange(IMAGES) % 3
    assert record()["columns"][0]["top1"] == pytest.approx(100 * (torch.argmax(1) == labels).mean())


def test_the_table_lists_changed_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = logits(onnx_models.images(IMAGES, 32))
    order = np.argsort(torch[3])
    torch[3, order[-1]], torch[3, order[-2]] = torch[3, order[-2]], torch[3, order[-1]]
    write_output(Path("torch.npy"), torch)
    assert compare("float32-fp32", torch_inputs="torch.npy") == 0
    screen = capsys.readouterr().out
    line = f"torch inputs -> ONNX: Top-1 changed in val/img3.JPEG ({order[-2]} -> {order[-1]}, label 0)"
    assert line in screen
    assert re.search(r"Top-1 changed, images +1 +0 +0", screen)
    assert line in Path("compare/stages.md").read_text()


def test_uint8_inputs_are_normalised_for_the_onnx_file(folder: Path) -> None:
    assert compare("uint8-fp16") == 0
    pixels = onnx_models.pixels(IMAGES, 32)
    given = [to_input(each, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3], "float32") for each in pixels]
    step = record()["steps"][0]
    expected = np.abs(logits(np.stack(given)).astype(np.float64) - written("uint8-fp16"))
    assert step["max"] == pytest.approx(expected.max(), rel=1e-4) and step["max"] > 0


def test_an_om_file_has_no_column_of_its_own(folder: Path) -> None:
    """Only infer can run an .om."""
    os.rename("om/float32-fp16.onnx", "om/m.om")
    os.rename("om/float32-fp16.onnx.json", "om/m.om.json")
    assert compare(model="om/m.om") == 0
    assert [column["name"] for column in record()["columns"]] == ["ONNX", "infer"]


def test_a_second_run_computes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare() == 0
    first = Path(OUTPUT).read_bytes()
    assert compare() == 0
    assert "is up to date" in capsys.readouterr().out
    os.unlink("compare/.stages.json.stamp")
    assert compare() == 0
    assert Path(OUTPUT).read_bytes() == first
    output = Path("out/float32-fp16/img2_0.bin")
    output.write_bytes(output.read_bytes())
    assert compare() == 0 and "is up to date" not in capsys.readouterr().out, "an output was written again"


def test_eval_of_other_outputs_is_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(Path("out/float32-fp16/img2_0.bin"), -written("float32-fp16")[2:3])
    assert compare() == 2
    check_error(capsys.readouterr().err, "compare.classification", "eval/float32-fp16.json", "make eval")
    assert not Path(OUTPUT).exists()


def test_other_metrics_are_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("eval/float32-fp16.json")
    content = json.loads(path.read_text())
    content["metrics"]["top1"] += 1
    path.write_text(json.dumps(content))
    assert compare() == 2
    check_error(capsys.readouterr().err, "compare.classification", str(path), "top1", "make eval")


def test_the_run_of_another_model_is_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(model="om/float32-fp32.onnx") == 2
    check_error(capsys.readouterr().err, "compare.classification", "float32-fp16_run.json", "make infer")


@pytest.mark.parametrize("content", [b"no array", b""])
def test_damaged_logits(folder: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    Path("torch.npy").write_bytes(content)
    assert compare(torch_images="torch.npy") == 2
    check_error(capsys.readouterr().err, "compare.classification", "torch.npy", "make compare")


def test_logits_of_other_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(Path("torch.npy"), np.zeros((3, 10), np.float32))
    assert compare(torch_images="torch.npy") == 2
    check_error(capsys.readouterr().err, "compare.classification", "torch.npy", f"{IMAGES} rows", "[3, 10]")


def test_logits_that_are_not_finite_are_counted(folder: Path) -> None:
    """A compiled model with NaN in its bias."""
    model = onnx.load("om/float32-fp16.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[:2] = np.nan
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "bias"))
    runner = classification.Runner(Path("om/float32-fp16.onnx"))
    assert np.isfinite(runner(onnx_models.images(3, 32))[0]).all()
    onnx.save(model, "nan.onnx")
    outputs = classification.Runner(Path("nan.onnx"))(onnx_models.images(3, 32))[0]
    step = classification.Step("ONNX", "compiled")
    step.sums.add(np.zeros_like(outputs), outputs)
    assert step.record()["not_finite"] == 6
