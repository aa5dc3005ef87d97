"""evaluate_classes: Top-N from predictions, the best class of each image, and a warning about shifted labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from postprocess.evaluation import evaluate_classes


@pytest.mark.parametrize("shift", [0, 1])
def test_evaluated_predictions_contain_the_warning(shift: int, tmp_path: Path) -> None:
    """The model knows all 40 images; the label list is of another release, with labels one higher."""
    lines = []
    for number in range(40):
        label = number % 10
        values = {"classes": [label, 10, 11, 12, 13], "probabilities": [0.9, 0.1, 0, 0, 0], "rank": 2 if shift else 0}
        lines.append(json.dumps({"source": f"val/{number}.JPEG", "label": label + shift, **values, "size": [9, 9]}))
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = evaluate_classes(path, 20, tmp_path / "result.json")
    assert found.metrics["top1"] == (0 if shift else 100)
    assert any("100.00%" in warning for warning in found.warnings) == bool(shift)
    assert found.best is not None and list(found.best) == [number % 10 for number in range(40)]
