"""report.index: one row for each run, with the numbers of its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report import index
from tests.report.runs import Built, BuiltPose
from tests.support.errors import check_error
from tests.support.html_pages import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def test_a_row_for_each_run(tmp_path: Path) -> None:
    built, people = Built(tmp_path), BuiltPose(tmp_path)
    other = built.metrics.with_name("emulator-bs1-fp16.json")
    other.write_text(built.metrics.read_text().replace('"not judged"', '"fail"'))
    built.metrics.with_name("emulator-qps.json").write_text('{"kind": "qps", "format_version": 1}')
    built.write()
    page = tmp_path / "build/report.html"
    arguments = ["--build", str(tmp_path / "build"), "--output", str(page), "--models", "small", "pose"]
    assert index.main(arguments) == 0
    found = Page(page)
    found.check_safe()
    found.check_numbers()
    keys = [values["data-key"] for values, _ in found.numbers]
    assert keys.count("/metrics/top1") == 2 and keys.count("/metrics/AP") == 1
    assert "small/report.html" in found.links and "pose/report.html" not in found.links, "it was not written"
    ap = json.loads(people.metrics.read_text())["metrics"]["AP"]
    assert f"{ap:.2f}" in found.text and "3 runs" in found.text


def test_a_model_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Built(tmp_path)
    page = tmp_path / "build/report.html"
    assert index.main(["--build", str(tmp_path / "build"), "--output", str(page), "--models", "smallx"]) == 2
    check_error(capsys.readouterr().err, "report.index", "MODELS=smallx", "did you mean small?")
    assert not page.exists()
    assert index.main(["--build", str(tmp_path), "--output", str(page), "--models", "small"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("no evaluated runs of MODELS=small; make eval MODEL=small")
