"""evaluate_classes: Top-N from predictions, and a warning about labels that are shifted by one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from postprocess.evaluation import evaluate_classes, shifted_labels


@pytest.mark.parametrize(
    ("beside", "parts"),
    [
        ({-1: 54, 0: 1, 7: 5}, ["one lower", "90.00%"]),
        ({1: 390, 0: 4, -1: 3, 9: 3}, ["one higher", "97.50%"]),
        ({0: 54, -1: 3, 1: 3}, []),  # good labels
        ({5: 60}, []),
        ({0: 1, 1: 4, 30: 55}, []),  # may be chance
        ({1: 1}, []),
    ],
)
def test_labels_shifted_by_one(beside: dict[int, int], parts: list[str]) -> None:
    found = shifted_labels(Counter(beside)).get("warning", "")
    assert bool(found) == bool(parts) and all(part in found for part in parts)


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
    assert ("100.00%" in found.details.get("warning", "")) == bool(shift)
