"""Warnings about results that look wrong: shifted labels, an accuracy near chance, another model than the reference."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from postprocess import gate
from postprocess.classification import main
from postprocess.plausible import at_chance, other_model, shifted_labels
from tests.support.classification_run import Run


@pytest.mark.parametrize(
    ("shifts", "parts"),
    [
        ({-1: 54, 0: 1, 7: 5}, ["one lower", "90.00%"]),  # {best class - label: number of images}
        ({1: 390, 0: 4, -1: 3, 9: 3}, ["one higher", "97.50%"]),
        ({0: 54, -1: 3, 1: 3}, []),  # good labels
        ({5: 60}, []),
        ({0: 1, 1: 4, 30: 55}, []),  # may be chance
        ({1: 1}, []),
    ],
)
def test_labels_shifted_by_one(shifts: dict[int, int], parts: list[str]) -> None:
    found = shifted_labels(Counter(shifts))
    assert bool(found) == bool(parts) and all(part in found[0] for part in parts)


@pytest.mark.parametrize(
    ("low", "classes", "warned"),
    [
        (16.8, 3, "33.3%"),  # the interval's lower end if 4 of 10 images are right
        (0.0, 1000, "0.1%"),
        (0.11, 1000, ""),
        (99.0, 1, ""),
        (50.0, 0, ""),  # AP
        (0.0, 0, "0%"),
    ],
)
def test_chance_within_the_interval(low: float, classes: int, warned: str) -> None:
    found = at_chance(low, classes)
    assert bool(found) == bool(warned) and all(f"({warned})" in line for line in found)


@pytest.mark.parametrize(
    ("changed", "images", "accuracy", "warned"),
    [
        (None, 10, 50.0, False),
        (0, 1, 100.0, False),
        (0, 100, 100.0, False),
        (6000, 50_000, 76.0, False),  # int8
        (8500, 50_000, 76.0, True),  # two training runs
        (1, 500, 98.0, False),
        (15, 500, 98.0, True),
        (4, 10, 40.0, False),  # too few images to tell
        (8, 10, 40.0, True),
        (300, 1000, 0.1, False),  # random weights in int8
    ],
)
def test_another_model_than_the_reference(changed: int, images: int, accuracy: float, warned: bool) -> None:
    found = other_model(changed, images, accuracy)
    assert bool(found) == warned and all(f"{100 * changed / images:.1f}% of the images" in line for line in found)


def with_hits(folder: Path, hits: int, images: int, classes: int) -> Run:
    """The model finds class 0 on all images, which is right on the first `hits`."""
    logits = np.zeros((images, classes), np.float32)
    logits[:, 0] = 1
    return Run(folder, logits, [0] * hits + [1 + number % 2 for number in range(images - hits)], classes)


def reference(run: Run, **values: Any) -> list[str]:
    """Arguments that compare with a reference that has a Top-1 of 40%."""
    path, images = run.root / "reference.json", Manifest.read(run.manifest).images_sha256()
    write_record(path, "metrics", {"metrics": {"top1": 40.0}, "images_sha256": images, "tool": "torch 2", **values})
    return run.arguments("--reference", str(path))


@pytest.mark.parametrize(("hits", "images", "warned"), [(4, 10, True), (40, 100, True), (48, 100, False)])
def test_a_pass_near_chance_has_a_warning(hits: int, images: int, warned: bool, tmp_path: Path) -> None:
    run = with_hits(tmp_path, hits, images, 3)
    assert main(reference(run)) == 0
    found = run.metrics()
    assert found["verdict"] == "pass"
    assert ("warning" in found) == warned == ("; warning: " in gate.verdict_line(found))
    assert "33.3%" in found.get("warning", "33.3%")


@pytest.mark.parametrize(("other", "warned"), [(0, False), (1, False), (30, True)])
def test_images_with_another_class_are_counted(other: int, warned: bool, tmp_path: Path) -> None:
    """For `other` of 50 images the reference has another class. The model and the reference both have a Top-1 of
    40%."""
    run = with_hits(tmp_path, 20, 50, 10)
    assert main(reference(run, predicted=[7] * other + [0] * (50 - other))) == 0
    found = run.metrics()
    assert (found["verdict"], found["reference"]["changed"]) == ("pass", other)
    line = gate.verdict_line(found)
    assert (
        re.findall("differs from the reference's for ([0-9]+ images?)", line)
        == {
            0: [],
            1: ["1 image"],
            30: ["30 images"],
        }[other]
    )
    assert ("same weights" in found.get("warning", "")) == warned


@pytest.mark.parametrize(
    ("of_model", "of_reference", "tool", "warned"),
    [
        ("ab", "cd", "torch 2", True),
        ("ab", "ab", "torch 2", False),
        ("", "cd", "torch 2", False),  # an ONNX file of another tool
        ("ab", "cd", "onnxruntime 1 in float32", False),  # the hash of the ONNX file
    ],
)
def test_a_reference_of_another_checkpoint_has_a_warning(
    of_model: str, of_reference: str, tool: str, warned: bool, tmp_path: Path
) -> None:
    """Also if both find the same classes."""
    run = with_hits(tmp_path, 20, 50, 10)
    run.rewrite(metadata={**run.run.metadata, **({"weights_sha256": of_model} if of_model else {})})
    assert main(reference(run, predicted=[0] * 50, weights_sha256=of_reference, tool=tool)) == 0
    assert ("another checkpoint" in run.metrics().get("warning", "")) == warned


def test_classes_of_another_run_are_read_from_its_predictions(tmp_path: Path) -> None:
    run = with_hits(tmp_path, 20, 50, 10)
    assert main(run.arguments()) == 0
    before = run.output
    run.output = before.with_name("second.json")
    assert main(run.arguments("--reference", str(before))) == 0
    assert run.metrics()["reference"]["changed"] == 0
    run.predictions.write_text("")  # no longer those of the record
    run.output = before.with_name("third.json")
    assert main(run.arguments("--reference", str(before))) == 0
    assert "changed" not in run.metrics()["reference"]


@pytest.mark.parametrize("predicted", [[0] * 49, "0", [0.0] * 50, [None] * 50])
def test_invalid_classes_are_rejected(predicted: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = with_hits(tmp_path, 20, 50, 10)
    assert main(reference(run, predicted=predicted)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "predicted" in line and "reference.json" in line and "make reference" in line
