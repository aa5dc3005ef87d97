"""`make compare` from a checkpoint: both tables, with torch's columns; nothing is computed twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Checkout

IMAGES = 24
PLACE = f"build/demo_digits/compare/digits-float32-first{IMAGES}/onnxruntime-bs16-fp16"


@pytest.mark.slow
def test_make_compare(tmp_path: Path) -> None:
    pytest.importorskip("sklearn.datasets")
    checkout = Checkout(tmp_path)
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    given = (
        "compare",
        "DATASET=data/digits",
        f"LIMIT={IMAGES}",
        "PRECISION=fp16",
        "BACKEND=onnxruntime",
        "REFERENCE=torch",
    )
    done = checkout.make(*given)
    assert done.returncode == 0, done.stderr
    assert "torch images" in done.stdout and "of 180 operators, by own error" in done.stdout
    stages = json.loads((checkout.root / f"{PLACE}/stages.json").read_text())
    metrics = json.loads((checkout.root / f"{PLACE.replace('compare', 'eval')}.json").read_text())
    assert len(stages["columns"]) == 5 and stages["images"] == IMAGES
    assert stages["columns"][-1]["top1"] == metrics["metrics"]["top1"]
    torch, exported, compiled, infer = stages["steps"]
    assert torch["max"] < 1e-5 and exported["max"] < 1e-3 and infer["max"] == 0
    assert 1e-3 < compiled["max"] < 0.1
    operators = json.loads((checkout.root / f"{PLACE}/operators.json").read_text())["operators"]
    assert next(each for each in operators if each["layer"] == "classifier")["kind"] == "Gemm"
    assert "up to date" not in checkout.make(*given).stdout
