"""From outputs to metrics: the record, the stamp, and files that do not match."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from hrnet.io import stamp
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.parts import Part, predictions_path
from hrnet.io.predictions import ClassPrediction, read_predictions
from hrnet.io.records import write_record
from postprocess import gate, merge, topn
from postprocess.classification import main
from postprocess.plausible import at_chance
from tests.postprocess.steps import steps_of
from tests.support.classification_run import HASH, Run, labels_of, logits_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four images of three classes; the first three are right."""
    logits = np.array([[3, 2, 1], [1, 3, 2], [1, 2, 3], [3, 2, 1]], np.float32)
    return Run(tmp_path, logits, [0, 1, 2, 2], 3)


def test_the_metrics_record_has_this_content(run: Run) -> None:
    assert main(run.arguments()) == 0
    three, all_four = gate.wilson_interval(0.75, 4), gate.wilson_interval(1.0, 4)
    assert run.metrics() == {
        "kind": "metrics",
        "format_version": 1,
        "name": "small",
        "metrics": {"top1": 75.0, "top2": 75.0, "top3": 100.0},
        "interval95": {
            "top1": [100 * end for end in three],
            "top2": [100 * end for end in three],
            "top3": [100 * end for end in all_four],
        },
        "images": 4,
        "classes": 3,
        "batch": 1,
        "counts": {"inputs": 4, "outputs": 4, "evaluated": 4, "rejected": 2},
        "rejected_in": [str(run.manifest.with_name("rejected.json"))],
        "gate": {"metric": "top1", "allowed_points": 1.0},
        "reference": None,
        "drop": None,
        "verdict": "not judged",
        "why": "no reference is known; give REFERENCE=torch or REFERENCE=<metrics record of a run on the same images>",
        "warning": at_chance(0, 3)[0],  # the interval begins at 30.1%
        "images_sha256": Manifest.read(run.manifest).images_sha256(),
        "evaluated": {
            "manifest_sha256": sha256_file(run.manifest),
            "run_sha256": sha256_file(run.record),
            "predictions_sha256": sha256_file(run.predictions),
            "model_sha256": HASH,
        },
        "model": {"model": "small", "config_sha256": run.config_sha256},
        "tool": "emulator 1",
        "images_per_second": {"infer end to end": 4 / 0.25, "device alone": 50.0},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    assert run.output.stat().st_mode & 0o777 == 0o640


def test_predictions_have_the_best_classes_and_probabilities(run: Run) -> None:
    """Softmax of 3, 2, 1 in any order; the last image's label has the lowest logit."""
    assert main(run.arguments()) == 0
    probabilities = [round(each, 6) for each in np.exp([3.0, 2.0, 1.0]) / np.exp([3.0, 2.0, 1.0]).sum()]
    found = list(read_predictions(run.predictions, ClassPrediction))
    assert found == [
        ClassPrediction("val/img0.JPEG", 0, 0, [0, 1, 2], probabilities, [60, 99]),
        ClassPrediction("val/img1.JPEG", 1, 0, [1, 2, 0], probabilities, [61, 99]),
        ClassPrediction("val/img2.JPEG", 2, 0, [2, 1, 0], probabilities, [62, 99]),
        ClassPrediction("val/img3.JPEG", 2, 2, [0, 1, 2], probabilities, [63, 99]),
    ]


def test_a_background_class_is_predicted_as_minus_one(tmp_path: Path) -> None:
    """Four outputs for three classes: the first is the background."""
    logits = np.array([[0, 1, 2, 3], [9, 1, 2, 3]], np.float32)
    run = Run(tmp_path, logits, [2, 2], 3)
    assert main(run.arguments()) == 0
    first, second = read_predictions(run.predictions, ClassPrediction)
    assert (first.label, first.rank, first.classes) == (2, 0, [2, 1, 0, -1])
    assert (second.label, second.rank, second.classes[:2]) == (2, 1, [-1, 2])


def test_the_figures_of_the_config_are_the_reference(run: Run) -> None:
    run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76, TOP5: 100, IMAGES: 6, SOURCE: the paper}\n")
    assert main(run.arguments()) == 0
    assert run.metrics()["reference"] == {"top1": 76.0, "source": "the paper", "images": 6}
    assert (run.metrics()["drop"]["points"], run.metrics()["verdict"]) == (1.0, "pass")
    run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76, IMAGES: 6}\n")
    assert main(run.arguments("--gate", "0.99")) == 0  # the metrics are made; the gate reads the verdict
    assert run.metrics()["reference"] == {"top1": 76.0, "source": "the config", "images": 6}
    assert (run.metrics()["gate"]["allowed_points"], run.metrics()["verdict"]) == (0.99, "fail")
    assert gate.main([str(run.output)]) == gate.main([str(run.output)]) == 1


def test_a_subset_is_not_judged_by_the_figure_of_the_config(run: Run) -> None:
    """Four of ten images are judged only by a reference on the same images, or with --judge_subset."""
    run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76, IMAGES: 10}\n")
    dataclasses.replace(Manifest.read(run.manifest), available=10).write(run.manifest)
    run.rewrite(manifest_sha256=sha256_file(run.manifest))
    assert main(run.arguments()) == 0
    found = run.metrics()
    assert (found["verdict"], found["available"], found["drop"]) == ("not judged", 10, None)
    assert "LIMIT=0" in found["why"] and "REFERENCE=config" in found["why"]
    assert main(run.arguments("--judge_subset")) == 0
    assert run.metrics()["verdict"] == "pass" and "why" not in run.metrics()
    assert main(run.arguments("--reference", str(reference(run)), "--gate", "5")) == 0
    assert run.metrics()["verdict"] == "pass"


@pytest.mark.parametrize("measured_on", [4, 50, 50000])
def test_a_data_set_of_another_size_is_not_judged_by_the_figure_of_the_config(run: Run, measured_on: int) -> None:
    """The data set has six images, two of which were rejected."""
    run.cfg.write_text(f"MODEL: {{NUM_CLASSES: 3}}\nREFERENCE: {{TOP1: 76, IMAGES: {measured_on}}}\n")
    assert main(run.arguments()) == 0
    found = run.metrics()
    assert (found["verdict"], found["drop"], found["reference"]["images"]) == ("not judged", None, measured_on)
    assert f"{measured_on} images" in found["why"] and "REFERENCE=torch" in found["why"]
    assert "LIMIT" not in found["why"], "all images of the data set were evaluated"
    assert gate.main([str(run.output)]) == gate.NOT_JUDGED
    assert main(run.arguments("--judge_subset")) == 0
    assert run.metrics()["verdict"] == "pass"
    line = gate.verdict_line(run.metrics())
    assert f"measured on {measured_on} images" in line and "REFERENCE=config" in line


def reference(run: Run, **changes: Any) -> Path:
    """A metrics record of torch's reference accuracy."""
    path = run.root / "reference.json"
    content = {
        "metrics": {"top1": 80.0, "top2": 90.0, "top5": 100.0},
        "images_sha256": Manifest.read(run.manifest).images_sha256(),
        "tool": "torch 2",
    }
    write_record(path, "metrics", {**content, **changes})
    return path


def test_a_reference_on_the_same_images_is_used(run: Run) -> None:
    assert main(run.arguments("--reference", str(reference(run)), "--gate", "5")) == 0
    assert run.metrics()["reference"] == {"top1": 80.0, "source": "torch 2 on the same images"}
    assert run.metrics()["drop"] == {"points": 5.0, "relative_percent": 6.25}
    assert run.metrics()["verdict"] == "pass"


def test_metrics_of_another_run_can_be_the_reference(run: Run) -> None:
    assert main(run.arguments()) == 0
    first = run.output.rename(run.root / "first.json")
    assert main(run.arguments("--reference", str(first))) == 0
    assert run.metrics()["reference"] == {"top1": 75.0, "source": "emulator 1 on the same images"}
    assert run.metrics()["drop"]["points"] == 0.0


@pytest.mark.parametrize("figure", [0, 0.0, 100])
def test_a_reference_of_0_or_100_is_accepted(figure: float, run: Run) -> None:
    assert main(run.arguments("--reference", str(reference(run, metrics={"top1": figure})))) == 0
    assert run.metrics()["reference"]["top1"] == figure
    assert run.metrics()["verdict"] == ("fail" if figure == 100 else "pass")


@pytest.mark.parametrize("metadata", [{}, {"model": "someone's own"}])
def test_a_model_without_a_config_is_accepted(metadata: dict[str, str], run: Run) -> None:
    run.rewrite(metadata=metadata)
    assert main(run.arguments()) == 0
    assert run.metrics()["model"] == metadata


# --- the stamp --------------------------------------------------------------------------------------------------------


RANK, EVALUATE = "rank_files", "evaluate_classes"


def work(run: Run, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    """The steps of a call: rank the classes, evaluate the ranks, both or none."""
    return steps_of(lambda: main(run.arguments(*options)), monkeypatch, [(topn, RANK), (merge, EVALUATE)])


def test_a_second_run_only_touches(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work(run, monkeypatch) == [RANK, EVALUATE]
    before = run.output.read_bytes(), run.output.stat().st_mtime_ns
    assert work(run, monkeypatch) == []
    assert run.output.read_bytes() == before[0] and run.output.stat().st_mtime_ns > before[1]
    screen = capsys.readouterr().out
    assert f"{run.predictions} is up to date" in screen and "1-of-1" not in screen, "no parts were asked for"
    command = screen.partition("make it again: ")[2].partition(")")[0]
    subprocess.run(shlex.split(command), check=True)
    assert not run.output.exists() and work(run, monkeypatch) == [RANK, EVALUATE]


def write_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())


Change = Callable[[Run], object]
CHANGES: dict[str, tuple[Change, list[str]]] = {
    "the run": (lambda run: run.rewrite(batch=2), [RANK, EVALUATE]),
    "an output that was written again": (lambda run: write_again(run.folder / "img2_0.bin"), [RANK]),
    "damaged predictions": (lambda run: predictions_path(run.part).write_text(""), [RANK]),
    "no part": (lambda run: run.part.unlink(), [RANK]),
    "the reference": (
        lambda run: run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76, IMAGES: 6}\n"),
        [EVALUATE],
    ),
    "damaged metrics": (lambda run: run.output.write_text("{}"), [EVALUATE]),
    "no metrics": (lambda run: run.output.unlink(), [EVALUATE]),
    "no result": (lambda run: (run.output.with_suffix("") / "result.json").unlink(), [EVALUATE]),
    "other predictions": (lambda run: run.predictions.write_text(""), [EVALUATE]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_repeats_what_depends_on_it(what: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    change, expected = CHANGES[what]
    assert work(run, monkeypatch) == [RANK, EVALUATE]
    change(run)
    assert work(run, monkeypatch) == expected
    assert work(run, monkeypatch) == []


def test_other_options_or_code_repeat_the_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert work(run, monkeypatch) == [RANK, EVALUATE]
    assert work(run, monkeypatch, "--gate", "2") == [EVALUATE]
    assert work(run, monkeypatch, "--gate", "2", "--reference", str(reference(run))) == [EVALUATE]
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: "0")
    assert work(run, monkeypatch, "--gate", "2", "--reference", str(reference(run))) == [RANK, EVALUATE]


def test_a_part_is_not_evaluated(run: Run) -> None:
    """--part writes the predictions and their record."""
    path = run.root / "parts/1-of-1.json"
    assert main([*run.arguments()[:-2], "--part", str(path)]) == 0
    record = Part.read(path)
    assert (record.shard, record.images, record.classes, record.batch, record.flip) == ([1, 1], 4, 3, 1, False)
    assert (record.model, record.model_sha256, record.tool) == ("m.onnx", HASH, "emulator 1")
    assert not run.output.exists() and not run.predictions.exists()


# --- what is rejected -------------------------------------------------------------------------------------------------


def rejected(
    run: Run, capsys: pytest.CaptureFixture[str], where: object, *parts: str, options: tuple[str, ...] = ()
) -> None:
    """The call exits with 2, one line names `where` and the parts, and nothing is written."""
    assert main(run.arguments(*options)) == 2
    assert not run.output.exists()
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"postprocess.classification: error: {where}: ")
    assert all(part in captured.err for part in parts), captured.err


def test_an_error_of_a_worker_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(topn, "MAX_SERIAL_IMAGES", 0)
    run = Run(tmp_path, logits_of(3, 6), labels_of(3, 6), 6)
    (run.folder / "img2_0.bin").write_bytes(bytes(8))
    rejected(run, capsys, run.folder / "img2_0.bin", "expected 6, found 2", f"rm {run.record}; make infer")


def other_files(*stems: str) -> Change:
    return lambda run: run.rewrite(files={stem: [f"{stem}_0.bin"] for stem in stems})


MORE_INFO = "MODEL: {NUM_CLASSES: 3}\nINPUT: {RESIZE: 300}"
OTHER_MODEL = {"model": "large", "config_sha256": HASH}
BFLOAT = [TensorInfo("class", "bfloat16", [1, 3])]
TWO = [TensorInfo(name, "float32", [1, 3]) for name in ("output1", "output2")]
AGAIN = "rm {record}; make infer"
REJECTED: dict[str, tuple[Change, str, str]] = {  # a change, the file that is named, and a part of the line
    "a missing output": (lambda run: (run.folder / "img2_0.bin").unlink(), "{folder}/img2_0.bin", AGAIN),
    "too few images": (other_files("img0", "img1", "img2"), "{record}", "found img3); " + AGAIN),
    "too many": (other_files("img0", "img1", "img2", "img3", "old"), "{record}", "found old); " + AGAIN),
    "another image": (other_files("img0", "img1", "img2", "other"), "{record}", "found img3, other); " + AGAIN),
    "no images": (other_files(), "{record}", "found img0, img1, img2 and 1 more); " + AGAIN),
    "other inputs": (lambda run: run.rewrite(manifest_sha256=HASH), "{record}", "of {manifest}); run make infer"),
    "other classes": (lambda run: run.cfg.write_text("MODEL: {NUM_CLASSES: 4}"), "{manifest}", "run make preprocess"),
    "another size": (lambda run: run.cfg.write_text(MORE_INFO), "{manifest}", "{cfg}); run make preprocess"),
    "another model": (lambda run: run.rewrite(metadata=OTHER_MODEL), "{record}", "expected {cfg}, found large"),
    "an unnamed model": (lambda run: run.rewrite(metadata={"config_sha256": HASH}), "{record}", "expected {cfg}"),
    "an unknown dtype": (lambda run: run.rewrite(outputs=BFLOAT), "{record}", "found bfloat16"),
    "two outputs": (lambda run: run.rewrite(outputs=TWO), "{record}", "found ['output1', 'output2']"),
    "no output": (lambda run: run.rewrite(files={**run.run.files, "img0": []}), "{record}", "found ['class']"),
    "a label outside the classes": (
        lambda run: run.manifest.write_text(run.manifest.read_text().replace('"label": 1', '"label": 3')),
        "{manifest}",
        "val/img1.JPEG (3)",
    ),
}


@pytest.mark.parametrize("what", REJECTED)
def test_files_that_do_not_match_are_rejected(what: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change, where, part = REJECTED[what]
    change(run)
    rejected(run, capsys, where.format(**vars(run)), part.format(**vars(run)))


def test_a_run_record_of_another_name_is_rejected(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.record = run.record.rename(run.root / "run.json")
    rejected(run, capsys, run.root / "run.json", "_run.json")


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("img2_0", b"", ("found 0 bytes", "make infer")),
        ("img2_0", bytes(11), ("found 11 bytes", "make infer")),
        ("img2_0", bytes(8), ("expected 3, found 2", "make infer")),
        ("img0_0", bytes(8), ("expected 3, found 2", "make infer")),
        (
            "img2_0",
            np.array([1, np.nan, np.nan], "<f4").tobytes(),
            ("2 of 3 values NaN", "float16"),
        ),  # no hint to infer again
    ],
)
def test_an_invalid_output_is_rejected(
    name: str, data: bytes, parts: tuple[str, str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.folder / f"{name}.bin").write_bytes(data)
    rejected(run, capsys, run.folder / f"{name}.bin", *parts)


def test_an_invalid_text_output_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, logits_of(4, 3), [0, 1, 2, 2], 3, "txt")
    (run.folder / "img1_0.txt").write_text("1.0 two 3.0 \n")
    rejected(run, capsys, run.folder / "img1_0.txt", "make infer")


def test_outputs_of_another_number_of_classes_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, logits_of(4, 5), [0, 1, 2, 2], 3)
    rejected(run, capsys, run.folder, "found 5")


@pytest.mark.parametrize("images", [None, [], "text", 5, HASH])
def test_a_reference_on_other_images_is_rejected(images: object, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.root / "reference.json"
    write_record(path, "metrics", {"metrics": {"top1": 80.0}, "images_sha256": images})
    rejected(run, capsys, path, "REFERENCE=torch", options=("--reference", str(path)))


FIGURES = [None, "80", True, float("nan"), -0.1, 100.1]


@pytest.mark.parametrize("metrics", [*({"top1": figure} for figure in FIGURES), {}, {"top5": 1.0}, [80.0], None])
def test_a_reference_without_a_percentage_is_rejected(
    metrics: object, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = reference(run, metrics=metrics)
    rejected(run, capsys, path, "top1", "REFERENCE=torch", options=("--reference", str(path)))


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "101", "one", ""])
def test_an_invalid_gate_is_rejected(text: str, run: Run) -> None:
    with pytest.raises(SystemExit) as caught:
        main(run.arguments("--gate", text))
    assert caught.value.code == 2
    assert not run.output.exists()


@pytest.mark.parametrize("option", ["--reference", "--run", "--manifest"])
def test_missing_files_are_rejected(option: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(run.root / "absent.json")
    rejected(run, capsys, absent, options=(option, absent))
