"""The records of other stages in the page: rejected images, operators in float, precisions, comparisons, training, and
other models."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.quantized import QuantizedModel
from report import write
from report.accuracy import worst_operators
from tests.report.runs import Built

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def record(path: Path, kind: str, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kind": kind, "format_version": 1, **content}))


def test_all_other_records_are_shown(tmp_path: Path) -> None:
    built = Built(tmp_path)
    build, images = built.build, json.loads(built.metrics.read_text())["images_sha256"]
    record(built.run.manifest.with_name("rejected.json"), "rejected", images={"val/<b>.JPEG": "empty file"})
    step = {
        "action": "keep /conv1/Conv",
        "operators": 1,
        "divergence": 0.0021,
        "changed": 3,
        "images_per_second": 61.25,
    }
    steps = [{**step, "accepted": True}, {**step, "divergence": None, "accepted": False}]
    record(build / "keep_float/int8.json", "keep_float", precision="int8", candidates=74, operators=["a"], steps=steps)
    figures = {"accuracy": 87.65, "changed": 22, "images_per_second": 1490.8, "images": 40, "model": {}}
    row = {"name": "fp32", "precision": "fp32", "keep_float": "", "backends": {"onnxruntime": figures}}
    about = {"machine": {"processor": "P", "kind": "x", "cores": 2}, "versions": {}}
    record(build / "precision/set.json", "precision", rows=[row], **about)
    record(build / "reference/set.json", "metrics", metrics={"top1": 33.25}, images_sha256=images)
    record(build / "reference/set-onnx.json", "metrics", metrics={"top1": 11.5}, images_sha256="of other images")
    operator = {"node": "/c", "kind": "Conv", "layer": "<i>", "error": 0.5, "overflow": 1, "saturated": 0}
    operators = [{**operator, "own_error": value, "largest_value": 70000.0} for value in (0.001, 0.25, None)]
    folder = build / "compare/set/emulator-bs1"
    record(folder / "operators.json", "operators", operators=operators)
    operators += [{**operator, "own_error": 0.0, "largest_value": 1.0}]
    columns = [{"name": "ONNX", "top1": 51.5}, {"name": "compiled", "top1": 50.5}]
    changed = {"max": 0.0079, "relative": 1e-5, "not_finite": 0, "changed": [{"source": "x"}]}
    record(folder / "stages.json", "comparison", columns=columns, steps=[changed])
    page = built.write()
    page.check_safe()
    page.check_numbers()
    for text in (
        "val/<b>.JPEG",
        "empty file",
        "keep /conv1/Conv",
        "87.65",
        "1490.8",
        "33.25",
        "51.50",
    ):
        assert text in page.text, text
    assert "11.50" not in page.text, "a reference on other images is not shown"
    own = [float(values["value"]) for values, _ in page.numbers if values["data-key"].endswith("/own_error")]
    assert own == [0.25, 0.001], "sorted by the own error; operators without an error are not shown"
    assert not any(each.startswith(("make compare", "make precision", "make reference")) for each in page.pre)


def test_the_command_that_quantized_the_compiled_model(tmp_path: Path) -> None:
    """It is shown unless the model was quantized again since, with other images."""
    built = Built(tmp_path)
    int8, om = built.build / "int8/emulator/model_deploy_model.onnx", built.build / "om/bs1-float32-int8.onnx"
    for path in (int8, om):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"model")
    sha256, source, command = sha256_file(om), "5" * 64, ["amct_onnx", "calibration"]
    quantized = QuantizedModel(sha256, sha256, source, command, "amct_onnx", 1, ["train/a.JPEG"], {})
    quantized.write(int8)
    tensor, words = TensorInfo("x", "float32", [1, 2]), ["atc", f"--model={int8}"]
    CompiledModel(sha256, source, words, "atc", [tensor], [tensor], [], quantized.metadata()).write(om)
    built.change(evaluated={**json.loads(built.metrics.read_text())["evaluated"], "model_sha256": sha256})
    assert "amct_onnx calibration" in built.write("--model", str(om)).pre
    replace(quantized, images=["train/b.JPEG"]).write(int8)
    pre = built.write("--model", str(om)).pre
    assert "amct_onnx calibration" not in pre and f"atc --model={int8}" in pre


def train(built: Built, *top1: float) -> list[dict[str, Any]]:
    """A training run with an epoch for each Top-1 (percent). Returns the lines of its metrics.jsonl."""
    lines = [
        {"epoch": n, "lr": 0.05 / n, "train_loss": 2.0 / n, "loss": 2.5 / n, "top1": value, "images_per_second": 26.75}
        for n, value in enumerate(top1, 1)
    ]
    (built.build / "train").mkdir()
    (built.build / "train/metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (built.build / "train/model_best.pth.tar").write_bytes(b"trained")
    return lines


def test_operators_that_overflow_come_first() -> None:
    """An operator whose outputs are all infinite has no measured error."""
    operators = [
        {"error": 0.5, "own_error": 0.5, "overflow": 0, "own_overflow": 0},
        {"error": 0.0, "own_error": 0.0, "overflow": 9, "own_overflow": 9},
        {"error": 0.0, "own_error": 0.0, "overflow": 9, "own_overflow": 0},
        {"error": 0.7, "own_error": 0.6, "overflow": 0, "own_overflow": None},
        {"error": 0.1, "own_error": None, "overflow": None, "own_overflow": None},
    ]
    source = SimpleNamespace(content={"operators": operators})
    assert worst_operators(source) == [1, 3, 0, 4]  # type: ignore[arg-type]


def test_a_training_run(tmp_path: Path) -> None:
    built = Built(tmp_path)
    with built.cfg.open("a") as file:
        file.write("TRAIN: {END_EPOCH: 5}\n")
    lines = train(built, 40.25, 81.5, 81.5, 70.0)
    page = built.write()
    page.check_safe()
    page.check_numbers()
    expected = {"epochs": 4, "planned": 5, "rows": {"best": lines[1], "last": lines[3]}}
    assert page.json["page"]["training"] == expected
    shown = {values["data-key"]: text for values, text in page.numbers if "/training/" in values["data-key"]}
    assert shown["/training/epochs"] == "4" and shown["/training/rows/best/top1"] == "81.50"
    assert shown["/training/rows/last/loss"] == "0.6250" and shown["/training/rows/last/images_per_second"] == "26.8"
    assert "weights of this run are not known" in page.text and not any(
        each.startswith("make train") for each in page.pre
    )
    (command,) = [each for each in page.pre if "model_best" in each]
    assert command.startswith("make eval") and f"WEIGHTS={built.build}/train/model_best.pth.tar" in command
    record = json.loads(built.metrics.read_text())
    record["model"]["weights_sha256"] = hashlib.sha256(b"trained").hexdigest()
    built.metrics.write_text(json.dumps(record))
    text = built.write().text
    assert "are from this training" in text and "not the best ones" not in text
    record["model"]["weights_sha256"] = hashlib.sha256(b"of another training run").hexdigest()
    built.metrics.write_text(json.dumps(record))
    assert "weights of this run are not the best ones of this training" in built.write().text


def test_a_training_run_without_a_checkpoint_or_a_top1(tmp_path: Path) -> None:
    """As in the training of a pose model."""
    built = Built(tmp_path)
    (built.build / "train").mkdir()
    (built.build / "train/metrics.jsonl").write_text('{"epoch": 1, "lr": 0.1, "train_loss": 0.5}\n')
    page = built.write()
    page.check_numbers()
    assert page.json["page"]["training"]["rows"] == {"last": {"epoch": 1, "lr": 0.1, "train_loss": 0.5}}
    assert "from this training" not in page.text


def family_row(model: str, top1: Optional[float], reference: Optional[str], **more: Any) -> dict[str, Any]:
    """A row of a family record. The figures depend on the length of the name, so that those of two rows differ."""
    number = len(model)
    times = {"1": 12.5 + number, "4": 40.0 + number}
    return {
        **{"model": model, "gmacs": 4.25 + number, "params_m": 21.5 + number, "batch_ms": times, "tool": "emulator 1"},
        **{"top1": top1, "reference": reference, "published": None, **more},
    }


def test_a_family(tmp_path: Path) -> None:
    built = Built(tmp_path)
    peer = {"top1": 76.9, "v100_fp32_ms": [6.25, 8.75], "t4_fp32_ms": None, "t4_fp16_ms": None}
    rows = [
        family_row("hrnet_w18", 76.75, "a table", published=peer),
        family_row("small", 33.5, None),
        family_row("unknown<b>", None, None),
    ]
    about = {"BACKEND": "onnxruntime", "SOC": "x", "PRECISION": "fp32", "BATCHES": "1,4"}
    about["machine"] = {"processor": "A <fast> one", "cores": 2}
    path = built.build.parent / "family/emulator/family.json"
    record(path, "family", **about, rows=rows, published={"batches": [1, 4]})
    page = built.write()
    page.check_safe()
    page.check_numbers()
    ((family, _),) = [(key, each) for key, each in page.json["files"].items() if each["path"] == str(path)]
    shown = {values["data-key"]: text for values, text in page.numbers if values["data-record"] == family}
    for number, row in enumerate(rows):
        for key in ("gmacs", "params_m", *(f"batch_ms/{batch}" for batch in row["batch_ms"])):
            value = row["batch_ms"][key[9:]] if "/" in key else row[key]
            assert shown[f"/rows/{number}/{key}"] == f"{value:.2f}"
    assert shown["/rows/0/top1"] == "76.75" and "/rows/2/top1" not in shown
    assert "A <fast> one" in page.text and "unknown<b>" in page.text
    charts = re.findall("<svg.*?</svg>", page.text_of_file.partition("Other models")[2], re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        assert "currentColor" in chart and "#ffffff" not in chart and ">W18<" in chart and "unknown" not in chart
    assert "V100 FP32" in charts[3]


def test_a_family_without_this_model(tmp_path: Path) -> None:
    built = Built(tmp_path)
    record(built.build.parent / "family/emulator/family.json", "family", rows=[{"model": "other"}])
    assert not [command for command in built.write().pre if "make family" in command], "small is not in configs/"
    built.change(name="hrnet_w18")
    assert f"make family BUILD={built.build.parent} MODELS=hrnet_w18" in built.write().pre


def test_training_that_is_not_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = Built(tmp_path)
    (built.build / "train").mkdir()
    (built.build / "train/metrics.jsonl").write_text("{\n")
    assert write.main(built.arguments()) == 2
    assert "train/metrics.jsonl" in capsys.readouterr().err.splitlines()[-1]
