"""Outputs to metrics: the seed's arithmetic, the records' joints, and what is refused."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hrnet.io import tensors
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.records import write_record
from postprocess import classification, gate
from postprocess.classification import cumulative_accuracies, label_ranks, main
from tests.postprocess.runs import HASH, Run, labels_of, logits_of, seed_result

LOGITS = nps.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
    lambda shape: nps.arrays(np.float32, shape, elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf]))
)


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(LOGITS, st.data())
def test_ranks_are_places_in_a_stable_descending_sort(logits: np.ndarray, data: st.DataObject) -> None:
    images, classes = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)))
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [order[i].tolist().index(labels[i]) for i in range(images)]
    assert label_ranks(logits, labels).tolist() == expected


def test_among_equals_the_lower_index_comes_first() -> None:
    logits = np.zeros((3, 4), np.float32)
    assert label_ranks(logits, np.array([0, 1, 3])).tolist() == [0, 1, 3]


def test_cumulative_accuracies() -> None:
    assert cumulative_accuracies(np.array([0, 0, 1, 4, 9]), 5) == [0.4, 0.6, 0.6, 0.6, 0.8]


@pytest.mark.parametrize(
    ("images", "outputs", "classes"),
    [
        (1, 1000, 1000),
        (37, 1000, 1000),
        (37, 1001, 1000),
        (50, 10, 10),
        (50, 11, 10),
        (30, 3, 3),
        (30, 2, 2),
        (9, 1, 1),
    ],
)
def test_result_is_the_seed_s_to_the_byte(images: int, outputs: int, classes: int, tmp_path: Path) -> None:
    logits, labels = logits_of(images, outputs), labels_of(images, classes)
    for i in range(0, images, 3):  # some hits, in one of the first five places
        logits[i, labels[i] + outputs - classes] = np.sort(logits[i])[-1 - i % min(5, outputs)] + 0.005
    run = Run(tmp_path, logits, labels, classes)
    assert main(run.arguments()) == 0
    result = (run.output.with_suffix("") / "result.json").read_bytes()
    assert result == seed_result(logits, labels, shift=outputs - classes).encode()


def test_more_images_than_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "IMAGES_AT_ONCE", 4)
    logits, labels = logits_of(11, 6), labels_of(11, 6)
    run = Run(tmp_path, logits, labels, 6)
    assert main(run.arguments()) == 0
    assert (run.output.with_suffix("") / "result.json").read_text() == seed_result(logits, labels)


@pytest.mark.parametrize("ending", ["bin", "npy", "txt"])
def test_in_processes(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "IMAGES_ALONE", 0)
    monkeypatch.setattr(classification, "IMAGES_AT_ONCE", 4)
    logits, labels = logits_of(90, 6), labels_of(90, 6)  # more blocks than a worker is given at once
    run = Run(tmp_path, logits, labels, 6, ending)
    assert main(run.arguments()) == 0
    assert (run.output.with_suffix("") / "result.json").read_text() == seed_result(logits, labels)


def test_an_error_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classification, "IMAGES_ALONE", 0)
    run = Run(tmp_path, logits_of(3, 6), labels_of(3, 6), 6)
    (run.folder / "img2_0.bin").write_bytes(bytes(8))
    line = f"number of classes (expected 6, found 2); rm {run.record}; make infer"
    assert refusal(run, capsys) == f"{run.folder / 'img2_0.bin'}: {line}"


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_an_npy_of_another_dtype_among_float32(dtype: str, tmp_path: Path) -> None:
    logits, labels = np.rint(logits_of(20, 64) * 10), labels_of(20, 64)  # 64 float16 are as long as npy's header
    run = Run(tmp_path, logits.astype(np.float32), labels, 64, "npy")
    tensors.write_output(run.folder / "img5_0.npy", logits[5:6].astype(dtype))
    assert main(run.arguments()) == 0
    assert (run.output.with_suffix("") / "result.json").read_text() == seed_result(logits.astype(np.float32), labels)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
@pytest.mark.parametrize("ending", ["bin", "npy", "txt"])
def test_all_formats_and_dtypes_give_the_same(ending: str, dtype: str, tmp_path: Path) -> None:
    logits, labels = np.rint(logits_of(20, 7) * 10).astype(dtype), labels_of(20, 7)
    run = Run(tmp_path, logits, labels, 7, ending)
    assert main(run.arguments()) == 0
    expected = seed_result(logits.astype(np.float32), labels)
    assert (run.output.with_suffix("") / "result.json").read_text() == expected


# --- the record -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four images of three classes, of which the first three are right."""
    logits = np.array([[3, 2, 1], [1, 3, 2], [1, 2, 3], [3, 2, 1]], np.float32)
    return Run(tmp_path, logits, [0, 1, 2, 2], 3)


def test_metrics_record(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
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
        "gate": {"metric": "top1", "allowed_points": 1.0},
        "reference": None,
        "drop": None,
        "verdict": "not judged",
        "evaluated": {
            "manifest_sha256": sha256_file(run.manifest),
            "run_sha256": sha256_file(run.record),
            "model_sha256": HASH,
        },
        "model": {"model": "small", "config_sha256": run.config_sha256},
        "tool": "twin 1",
        "images_per_second": {"infer end to end": 12.5, "device alone": 50.0},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith(f"evaluated 4 images into {run.output} (")
    assert told.out.endswith(" img/s): top1 75.00%, top2 75.00%, top3 100.00%\n")
    assert run.output.stat().st_mode & 0o777 == 0o640


def test_the_config_s_figures_are_the_reference(run: Run) -> None:
    run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76, TOP5: 100, SOURCE: the paper}\n")
    assert main(run.arguments()) == 0
    assert run.metrics()["reference"] == {"top1": 76.0, "source": "the paper"}
    assert (run.metrics()["drop"]["points"], run.metrics()["verdict"]) == (1.0, "pass")
    run.cfg.write_text("MODEL: {NUM_CLASSES: 3}\nREFERENCE: {TOP1: 76}\n")
    assert main(run.arguments("--gate", "0.99")) == 0  # the metrics are made; the gate reads the verdict
    assert run.metrics()["reference"] == {"top1": 76.0, "source": "the config"}
    assert (run.metrics()["gate"]["allowed_points"], run.metrics()["verdict"]) == (0.99, "fail")
    assert gate.main([str(run.output)]) == gate.main([str(run.output)]) == 1


def reference(run: Run, **changes: Any) -> Path:
    """A metrics record as `train.evaluate` leaves it."""
    path = run.root / "reference.json"
    content = {
        "metrics": {"top1": 80.0, "top2": 90.0, "top5": 100.0},
        "manifest_sha256": sha256_file(run.manifest),
        "tool": "torch 2",
    }
    write_record(path, "metrics", {**content, **changes})
    return path


def test_a_reference_on_the_same_images(run: Run) -> None:
    assert main(run.arguments("--reference", str(reference(run)), "--gate", "5")) == 0
    assert run.metrics()["reference"] == {"top1": 80.0, "source": "torch 2 on the same images"}
    assert run.metrics()["drop"] == {"points": 5.0, "relative_percent": 6.25}
    assert run.metrics()["verdict"] == "pass"


def test_another_run_s_metrics_are_a_reference(run: Run) -> None:
    assert main(run.arguments()) == 0
    first = run.output.rename(run.root / "first.json")
    assert main(run.arguments("--reference", str(first))) == 0
    assert run.metrics()["reference"] == {"top1": 75.0, "source": "twin 1 on the same images"}
    assert run.metrics()["drop"]["points"] == 0.0


# --- what is refused --------------------------------------------------------------------------------------------------

MEND_REFERENCE = "make it from the same DATASET and LIMIT, or say REFERENCE=torch"


def refusal(run: Run, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line, without the script's name; nothing was written."""
    assert main(run.arguments(*options)) == 2
    assert not run.output.exists()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("postprocess.classification: error: ")
    assert told.err.endswith("\n")
    return told.err[len("postprocess.classification: error: ") : -1]


def test_a_missing_output(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder / "img2_0.bin").unlink()
    line = f"output is missing; rm {run.record}; make infer"
    assert refusal(run, capsys) == f"{run.folder / 'img2_0.bin'}: {line}"


@pytest.mark.parametrize(
    ("files", "differ"),
    [
        (["img0", "img1", "img2"], "img3"),
        (["img0", "img1", "img2", "img3", "old"], "old"),
        (["img0", "img1", "img2", "other"], "img3, other"),
        ([], "img0, img1, img2 and 1 more"),
    ],
)
def test_outputs_of_other_images(files: list[str], differ: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.rewrite(files={stem: [f"{stem}_0.bin"] for stem in files})
    line = f"outputs and inputs differ (found {differ}); rm {run.record}; make infer"
    assert refusal(run, capsys) == f"{run.record}: {line}"


def test_a_run_of_other_inputs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.rewrite(manifest_sha256=HASH)
    line = f"run was made from other inputs (expected those of {run.manifest}); run make infer"
    assert refusal(run, capsys) == f"{run.record}: {line}"


@pytest.mark.parametrize("text", ["MODEL: {NUM_CLASSES: 4}", "MODEL: {NUM_CLASSES: 3}\nINPUT: {RESIZE: 300}"])
def test_inputs_of_another_config(text: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.cfg.write_text(text)
    line = f"was made for another config than {run.cfg}; run make preprocess"
    assert refusal(run, capsys) == f"{run.manifest}: {line}"


def test_a_model_of_another_config(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    hint = "say the MODEL that the ONNX file was made from"
    run.rewrite(metadata={"model": "large", "config_sha256": HASH})
    line = f"is of a model of another config (expected {run.cfg}, found large); {hint}"
    assert refusal(run, capsys) == f"{run.record}: {line}"
    run.rewrite(metadata={"config_sha256": HASH})
    line = f"is of a model of another config (expected {run.cfg}); {hint}"
    assert refusal(run, capsys) == f"{run.record}: {line}"


@pytest.mark.parametrize("metadata", [{}, {"model": "someone's own"}])
def test_a_model_that_does_not_tell_its_config_is_taken(metadata: dict[str, str], run: Run) -> None:
    run.rewrite(metadata=metadata)
    assert main(run.arguments()) == 0
    assert run.metrics()["model"] == metadata


def test_an_output_of_an_unknown_dtype(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.rewrite(outputs=[TensorInfo("class", "bfloat16", [1, 3])])
    facts = "expected float32, float16, uint8, int8, int32, int64, found bfloat16"
    assert refusal(run, capsys) == f"{run.record}: dtype of class ({facts})"


def test_a_model_of_two_outputs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.rewrite(outputs=[TensorInfo(name, "float32", [1, 3]) for name in ("output1", "output2")])
    assert refusal(run, capsys) == f"{run.record}: a classifier has one output (found ['output1', 'output2'])"
    run.rewrite(files={**run.run.files, "img0": []})
    assert refusal(run, capsys) == f"{run.record}: a classifier has one output (found ['class'])"


def test_a_run_record_of_another_name(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.record = run.record.rename(run.root / "run.json")
    line = "is not named as a run record (expected <folder of outputs>_run.json)"
    assert refusal(run, capsys) == f"{run.root / 'run.json'}: {line}"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "is no float32 tensor (found 0 bytes); rm {}; make infer"),
        (bytes(11), "is no float32 tensor (found 11 bytes); rm {}; make infer"),
        (bytes(8), "number of classes (expected 3, found 2); rm {}; make infer"),
        (
            np.array([1, np.nan, np.nan], "<f4").tobytes(),  # inferring again would not mend it
            "is NaN (expected numbers, found 2 NaN of 3 values: the input, the weights or an overflow in fp16)",
        ),
    ],
)
def test_a_broken_output(data: bytes, line: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder / "img2_0.bin").write_bytes(data)
    assert refusal(run, capsys) == f"{run.folder / 'img2_0.bin'}: {line.format(run.record)}"


def test_the_first_output_is_held_to_the_model_s_classes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder / "img0_0.bin").write_bytes(bytes(8))
    line = f"number of classes (expected 3, found 2); rm {run.record}; make infer"
    assert refusal(run, capsys) == f"{run.folder / 'img0_0.bin'}: {line}"


def test_broken_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, logits_of(4, 3), [0, 1, 2, 2], 3, "txt")
    (run.folder / "img1_0.txt").write_text("1.0 two 3.0 \n")
    line = f"is no table of numbers; rm {run.record}; make infer"
    assert refusal(run, capsys) == f"{run.folder / 'img1_0.txt'}: {line}"


def test_outputs_of_another_number_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, logits_of(4, 5), [0, 1, 2, 2], 3)
    facts = "expected 3 classes, or 4 with a background class first, found 5"
    assert refusal(run, capsys) == f"{run.folder}: outputs do not fit the labels ({facts})"


def test_a_label_outside_the_classes_of_the_manifest(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = run.manifest.read_text()
    run.manifest.write_text(text.replace('"label": 1', '"label": 3'))
    line = "label outside the classes (expected 0 to 2, found val/img1.JPEG (3))"
    assert refusal(run, capsys) == f"{run.manifest}: {line}"


def test_a_reference_on_other_images(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = reference(run, manifest_sha256=HASH)
    line = f"reference was made on other images; {MEND_REFERENCE}"
    assert refusal(run, capsys, "--reference", str(path)) == f"{path}: {line}"


@pytest.mark.parametrize("evaluated", [None, [], "text", 5, {}, {"manifest_sha256": None}, {"manifest_sha256": HASH}])
def test_a_reference_that_does_not_tell_its_images(
    evaluated: object, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.root / "reference.json"
    write_record(path, "metrics", {"metrics": {"top1": 80.0}, "evaluated": evaluated})
    line = f"reference was made on other images; {MEND_REFERENCE}"
    assert refusal(run, capsys, "--reference", str(path)) == f"{path}: {line}"


@pytest.mark.parametrize(
    ("metrics", "facts"),
    [
        ({}, "expected percent"),
        ({"top5": 1.0}, "expected percent"),
        ([80.0], "expected percent"),
        (None, "expected percent"),
        ({"top1": None}, "expected percent"),
        ({"top1": "80"}, "expected percent, found 80"),
        ({"top1": True}, "expected percent, found True"),
        ({"top1": float("nan")}, "expected percent, found nan"),
        ({"top1": float("inf")}, "expected percent, found inf"),
        ({"top1": -0.1}, "expected percent, found -0.1"),
        ({"top1": 100.1}, "expected percent, found 100.1"),
    ],
)
def test_a_reference_without_a_figure(
    metrics: object, facts: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = reference(run, metrics=metrics)
    assert refusal(run, capsys, "--reference", str(path)) == f"{path}: top1 ({facts}); {MEND_REFERENCE}"


@pytest.mark.parametrize("figure", [0, 0.0, 100])
def test_a_reference_at_an_end_of_the_scale(figure: float, run: Run) -> None:
    assert main(run.arguments("--reference", str(reference(run, metrics={"top1": figure})))) == 0
    assert run.metrics()["reference"]["top1"] == figure
    assert run.metrics()["verdict"] == ("fail" if figure == 100 else "pass")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "101", "one", ""])
def test_points_that_the_gate_cannot_allow(text: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(run.arguments("--gate", text))
    assert caught.value.code == 2
    line = f"argument --gate: expected points of percent, found {text!r}"
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m postprocess.classification: error: {line}"
    assert not run.output.exists()


def test_missing_files(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(run.root / "absent.json")
    assert refusal(run, capsys, "--reference", absent) == f"{absent}: no metrics record; {MEND_REFERENCE}"
    assert refusal(run, capsys, "--run", absent) == f"{absent}: no run record; run make infer"
    assert refusal(run, capsys, "--manifest", absent) == f"{absent}: no manifest record; run make preprocess"
