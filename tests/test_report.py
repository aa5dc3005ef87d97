"""make report after make eval, on the demo's model: the page, and what make demo prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Checkout
from tests.support.html_pages import Page


def test_demo_prints_the_next_command_and_does_not_run_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "data/digits/val_label.txt", ".venv/done"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    done = checkout.make("-n", "demo")
    assert done.returncode == 0, done.stderr
    assert "make report MODEL=demo_digits BUILD=build/demo" in done.stdout
    assert "report.write" not in done.stdout


@pytest.mark.slow
def test_report_of_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn.datasets")
    checkout = Checkout(tmp_path)
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=tmp_path, check=True, capture_output=True)
    missing = checkout.make("report", "DATASET=data/digits", "LIMIT=60")
    assert missing.returncode == 2 and "no such metrics record; run make eval " in missing.stderr
    for more in ([], ["INPUT=uint8"]):
        assert checkout.make("eval", "GATE=50", "REFERENCE=config", *more).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("build/**/*.bin")}
    old = tmp_path / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32.json"
    done = checkout.make("report", f"BASE={os.path.relpath(old, tmp_path)}")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("build/**/*.bin")} == before, "nothing is inferred"
    monkeypatch.chdir(tmp_path)
    page = Page(Path("build/demo_digits/report.html"))
    page.check_safe()
    assert page.check_numbers() > 100
    own = page.json["page"]
    assert own["base"]["images"] == 60 and len(own["changed"]) == 2
    assert "Only 60 of 500 listed images" in page.text and page.text_of_file.count("data:image/jpeg") == 24
    assert not (tmp_path / "build/demo_digits/settings/BASE.mk").exists()
    assert checkout.make("report", "MODELS=demo_digits").returncode == 0
    index = Page(Path("build/report.html"))
    assert index.check_numbers() > 8 and "2 runs" in index.text
