"""The records of other stages in the page: training, rejected images, operators in float, precisions, comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report import write
from tests.report.runs import Built

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def record(path: Path, kind: str, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kind": kind, "format_version": 1, **content}))


def test_all_other_records_are_shown(tmp_path: Path) -> None:
    built = Built(tmp_path)
    build, images = built.build, json.loads(built.metrics.read_text())["images_sha256"]
    lines = [{"epoch": n, "train_loss": 2.0 / n, "loss": 2.5 / n, "top1": 40.0 * n} for n in (1, 2)]
    (build / "train").mkdir()
    (build / "train/metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
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
    figures = {"accuracy": 87.65, "flips": 22, "images_per_second": 1490.8, "images": 40, "model": {}}
    row = {"name": "fp32", "precision": "fp32", "keep_float": "", "backends": {"onnxruntime": figures}}
    about = {"machine": {"processor": "P", "kind": "x", "cores": 2}, "versions": {}}
    record(build / "precision/set.json", "precision", rows=[row], **about)
    record(build / "reference/set.json", "metrics", metrics={"top1": 33.25}, images_sha256=images)
    record(build / "reference/set-onnx.json", "metrics", metrics={"top1": 11.5}, images_sha256="of other images")
    operator = {"node": "/c", "kind": "Conv", "layer": "<i>", "error": 0.5, "overflow": 1, "saturated": 0}
    operators = [{**operator, "own_error": value, "largest_value": 70000.0} for value in (0.001, 0.25, None)]
    folder = build / "compare/set/emulator-bs1"
    record(folder / "operators.json", "operators", operators=operators)
    columns = [{"name": "ONNX", "top1": 51.5}, {"name": "compiled", "top1": 50.5}]
    changed = {"max": 0.0079, "relative": 1e-5, "not_finite": 0, "changed": [{"source": "x"}]}
    record(folder / "stages.json", "comparison", columns=columns, steps=[changed])
    shown = {
        "model": "small",
        "gmacs": 4.25,
        "params_m": 21.5,
        "batch_ms": {"1": 12.5},
        "top1": 76.75,
        "reference": "x",
    }
    family = build.parent / "family/emulator"
    record(family / "family.json", "family", rows=[{**shown, "model": "other"}, shown], published={})
    (family / "gmacs.svg").write_text("<svg/>")
    page = built.write()
    page.check_safe()
    page.check_numbers()
    for text in (
        "2 epochs",
        "val/<b>.JPEG",
        "empty file",
        "keep /conv1/Conv",
        "87.65",
        "1490.8",
        "33.25",
        "51.50",
        "21.50",
        "76.75",
    ):
        assert text in page.text, text
    assert page.text_of_file.count("data:image/svg+xml;base64") == 1
    assert "11.50" not in page.text, "a reference on other images is not shown"
    own = [float(values["value"]) for values, _ in page.numbers if values["data-key"].endswith("/own_error")]
    assert own == [0.25, 0.001], "worst first, by the own error or else by the error"
    assert not any(
        each.startswith(("make compare", "make precision", "make train", "make reference")) for each in page.pre
    )


def test_training_that_is_not_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = Built(tmp_path)
    (built.build / "train").mkdir()
    (built.build / "train/metrics.jsonl").write_text("{\n")
    assert write.main(built.arguments()) == 2
    assert "train/metrics.jsonl" in capsys.readouterr().err.splitlines()[-1]
