"""report.write: verdict, numbers equal to those in the records, untrusted names, missing records, and an older run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.files import sha256_file
from hrnet.io.predictions import ClassPrediction
from hrnet.io.records import write_record
from hrnet.io.runs import BenchRecord, BenchRow
from report import classes, write
from tests.report.runs import CLASSES, IMAGES, NAMES, Built, BuiltPose
from tests.support.errors import check_error
from tests.support.html_pages import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


def bench(path: Path) -> None:
    rows = [
        BenchRow(n, "m.onnx", "ab", 100.0 * n, 10 / n, None, {"median": 9.5, "percentile(99%)": 12.25}, 20, 1.5, 13.3)
        for n in (1, 4)
    ]
    machine = {"processor": "A <fast> one", "kind": "x86_64", "cores": 2}
    path.parent.mkdir()
    BenchRecord({}, "emulator 1", ["0"], None, 20, False, machine, {"python": "3.11"}, rows).write(path)


def test_every_number_is_equal_to_that_in_its_record(built: Built) -> None:
    built.add_images()
    bench(built.build / "bench/emulator.json")
    page = built.write()
    page.check_safe()
    assert page.check_numbers() > 100
    metrics = json.loads(built.metrics.read_text())
    first = page.numbers[0]
    assert first[1] == f"{metrics['metrics']['top1']:.2f}", "the accuracy is the first number"
    assert page.text.index("not judged") < page.text.index("What ran"), "the verdict is first"
    assert "9.50" in page.text and "12.25" in page.text and "A <fast> one" in page.text
    assert page.text_of_file.count("data:image/jpeg") == 24


def test_sums_are_computed_from_the_predictions(built: Built) -> None:
    """The test counts again, independently of report.classes."""
    own = built.write().json["page"]["classes"]
    predictions = built.predictions
    right = [each["classes"][0] == each["label"] for each in predictions]
    assert (own["images"], own["hits"]) == (IMAGES, sum(right))
    pairs = Counter((each["label"], each["classes"][0]) for each, hit in zip(predictions, right) if not hit)
    assert {(row["label"], row["found"]): row["images"] for row in own["confusions"]}.items() <= pairs.items()
    assert own["confusions"][0]["images"] == max(pairs.values()) and own["pairs"] == len(pairs)
    for row in own["worst"]:
        members = [hit for each, hit in zip(predictions, right) if each["label"] == row["label"]]
        assert (row["images"], row["hits"]) == (len(members), sum(members))
    rates = [row["top1"] for row in own["worst"]]
    assert rates == sorted(rates) and max(rates) < 100
    for row in own["reliability"]:
        inside = [
            (each["probabilities"][0], hit)
            for each, hit in zip(predictions, right)
            if row["least"] <= each["probabilities"][0] < row["most"] + (row["most"] == 1)
        ]
        assert row["images"] == len(inside) and row["mean"] == pytest.approx(np.mean([p for p, _ in inside]))
        assert row["top1"] == pytest.approx(100 * np.mean([hit for _, hit in inside]))
    wrong = sorted((each["probabilities"][0] for each, hit in zip(predictions, right) if not hit), reverse=True)
    shown = [row["guesses"][0]["probability"] for row in own["worst_images"]]
    assert shown == wrong[:24]
    sizes = {row["least"]: (row["most"], row["images"], row["hits"]) for row in own["sizes"]}
    assert sizes == {0: (64, 4, sum(right[:4])), 64: (128, IMAGES - 4, sum(right[4:]))}, "60 to 99 pixels wide, 99 high"


def test_names_are_shown_as_text(built: Built) -> None:
    hostile = "val/<img src=x onerror=alert(1)>\n.JPEG"
    folder = built.metrics.with_suffix("")
    path = folder / "predictions.jsonl"
    path.write_text(path.read_text().replace("val/img1.JPEG", json.dumps(hostile)[1:-1]))
    record = json.loads(built.metrics.read_text())
    record["evaluated"]["predictions_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    record["reference"] = {"top1": 10.0, "source": "</style></script><script>alert(2)</script>"}
    built.metrics.write_text(json.dumps(record))
    page = built.write()
    page.check_safe()
    assert NAMES[1] in page.text and "$x^2$" in page.text and "\u732b" in page.text
    assert "</style></script><script>alert(2)</script>" in page.text
    assert page.tags.count("img") == 0, "the page shows no images, so an img tag could come only from a name"


def test_the_command_for_each_missing_record_is_shown(built: Built) -> None:
    page = built.write()
    where = f"MODEL=small BUILD={built.build.parent}"
    for target in ("bench", "compare", "precision", "train", "reference"):
        assert any(each.startswith(f"make {target} {where}") for each in page.pre), target
    assert any("DATASET" in each and each.startswith("make report") for each in page.pre), "there are no images"
    assert any(each.startswith(f"make eval {where}") for each in page.pre)


def test_a_run_that_kept_all_outputs_has_no_times(built: Built) -> None:
    record = json.loads(built.run.record.read_text())
    built.run.record.write_text(json.dumps({**record, "kept": record["images"]}))
    sha256 = hashlib.sha256(built.run.record.read_bytes()).hexdigest()
    built.change(evaluated={**json.loads(built.metrics.read_text())["evaluated"], "run_sha256": sha256})
    page = built.write()
    assert page.json["page"]["chain"] is None and "The time of each step is unknown" in page.text


def test_the_same_records_give_the_same_page(built: Built) -> None:
    first = built.write().text_of_file
    assert built.write().text_of_file == first


def test_warnings(built: Built) -> None:
    record = json.loads(built.metrics.read_text())
    record |= {"available": 5000, "calibration_in_eval": 7}
    record["counts"]["rejected"] = 2
    built.metrics.write_text(json.dumps(record))
    page = built.write()
    page.check_numbers()
    assert f"Only {IMAGES} of 5,000 listed images" in page.text
    assert "7 of the evaluated images also calibrated" in page.text and "2 images could not be read" in page.text


@pytest.mark.parametrize(
    ("drop", "verdict", "more", "texts"),
    [
        (0.5, "pass", {}, ("keeps the accuracy", "Drop: 0.50 percentage points; at most 5 allowed", "limit 15.50")),
        (-2.0, "pass", {}, ("keeps the accuracy", "Gain: 2.00 percentage points; a drop of at most 5 allowed")),
        (-0.001, "pass", {}, ("keeps the accuracy of the reference.", "Drop: 0.00 percentage points")),
        (
            0.0,
            "pass",
            {"warning": "both are not better than chance"},
            ("pass, with a warning", "check this run: both are not better than chance"),
        ),
        (40.0, "fail", {}, ("further below the reference than is allowed", "Drop: 40.00", "limit 55.00")),
    ],
)
def test_the_verdict_is_explained(
    built: Built, drop: float, verdict: str, more: dict[str, str], texts: tuple[str, ...]
) -> None:
    record = json.loads(built.metrics.read_text())
    del record["why"], record["warning"]
    known = {"top1": record["metrics"]["top1"] + drop, "source": "torch", "changed": 3}
    record |= {"verdict": verdict, "drop": {"points": drop, "relative_percent": 0.0}, "reference": known, **more}
    built.metrics.write_text(json.dumps(record))
    page = built.write()
    page.check_numbers()
    first = page.text[: page.text.index("What ran")]
    for text in (*texts, "(torch; the Top-1 class differs for 3 images)"):
        assert text in first, first
    assert ("pass (warning)" in page.text) == ("warning" in more), "in the table of runs"


def test_the_reason_for_a_missing_verdict_is_given(built: Built) -> None:
    text = built.write().text
    first = text[: text.index("What ran")]
    assert (
        "Reason: no reference is known" in first
        and "not clearly better than chance" in first
        and "limit" not in first
        and "Reference:" not in first
    )


def test_predictions_of_another_run_are_rejected(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    path = built.metrics.with_suffix("") / "predictions.jsonl"
    path.write_text(path.read_text().replace('"rank": 0', '"rank": 1', 1))
    assert write.main(built.arguments()) == 2
    check_error(capsys.readouterr().err, "report.write", path, "SHA-256", "make eval")
    assert not built.page.exists()


def test_without_an_evaluation(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    built.metrics.unlink()
    assert write.main(built.arguments()) == 2
    check_error(capsys.readouterr().err, "report.write", built.metrics, "make eval")


def test_changes_since_an_older_run(tmp_path: Path) -> None:
    old, new = Built(tmp_path / "old", seed=5), Built(tmp_path / "new")
    page = new.write("--base", str(old.metrics))
    page.check_numbers()
    found = page.json["page"]["base"]
    pairs = list(zip(old.predictions, new.predictions))
    changed = [(a, b) for a, b in pairs if a["classes"][0] != b["classes"][0]]
    assert found["changed"] == len(changed) == len(found["listed"]) and found["images"] == IMAGES
    assert found["broken"] == sum(a["rank"] == 0 for a, _ in changed)
    assert found["fixed"] == sum(b["rank"] == 0 for _, b in changed)
    listed = {row["source"]: row["effect"] for row in found["listed"]}
    for before, after in changed:
        effect = "broken" if before["rank"] == 0 else "fixed" if after["rank"] == 0 else "other"
        assert listed[after["source"]] == effect
    assert "wrong now" in page.text and "correct now" in page.text
    assert "base" not in new.write().json["page"]


def test_runs_of_the_same_model(built: Built) -> None:
    other = built.metrics.with_name("emulator-bs1-fp16.json")
    record = json.loads(built.metrics.read_text())
    shutil.copytree(built.metrics.with_suffix(""), other.with_suffix(""))
    path = other.with_suffix("") / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["classes"][0] = (lines[0]["classes"][0] + 1) % 6
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    other.write_text(json.dumps(record))
    built.metrics.with_name("emulator-qps.json").write_text('{"kind": "qps", "format_version": 1}')
    page = built.write()
    assert page.json["page"]["changed"] == [0, 1]
    page.check_numbers()


def without_sizes(built: Built) -> None:
    """Remove the image sizes, as release 0.1 did not write them."""
    path = built.metrics.with_suffix("") / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({key: line[key] for key in line if key != "size"}) + "\n" for line in lines))
    record = json.loads(built.metrics.read_text())
    record["evaluated"]["predictions_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    built.metrics.write_text(json.dumps(record))


def test_evaluations_without_image_sizes(tmp_path: Path) -> None:
    """Such an evaluation can be one of three: BASE; another run of the model; or the run of the page itself. In the
    last case the page reports that the image sizes are missing."""
    old, new = Built(tmp_path / "old", seed=5), Built(tmp_path / "new")
    without_sizes(old)
    other = new.metrics.with_name("emulator-bs1-fp16.json")
    shutil.copytree(old.metrics.with_suffix(""), other.with_suffix(""))
    shutil.copy(old.metrics, other)
    page = new.write("--base", str(old.metrics))
    assert page.json["page"]["base"]["images"] == IMAGES and page.json["page"]["classes"]["sizes"]
    assert page.json["page"]["changed"] == [0, page.json["page"]["base"]["changed"]]
    page = old.write()
    assert page.json["page"]["classes"]["sizes"] == [] and "did not write image sizes" in page.text
    page.check_numbers()


def test_a_pose_model(tmp_path: Path) -> None:
    page = BuiltPose(tmp_path).write()
    page.check_safe()
    assert page.check_numbers() > 50
    assert page.text_of_file.count("data:image/jpeg") == 8, "four images, as found and as annotated"
    assert "AP by number of people" in page.text and "left shoulder" in page.text
    assert "read" in page.json["page"]["chain"]["steps"] or "decode: read" in page.json["page"]["chain"]["steps"]


def test_a_base_of_the_other_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built, people = Built(tmp_path / "a"), BuiltPose(tmp_path / "b")
    capsys.readouterr()
    assert write.main(built.arguments("--base", str(people.metrics))) == 2
    check_error(capsys.readouterr().err, "report.write", people.metrics, "top1", "AP")


def test_links_of_the_page_lead_to_existing_files(built: Built) -> None:
    page: Page = built.write()
    for link in page.links:
        if not link.startswith(("#", "http")):
            assert (page.path.parent / link).exists(), link


def test_the_comparison_with_pytorch(built: Built) -> None:
    """The record has the difference that is closest to its tolerance, which may not be the largest one."""
    difference = {"model_sha256": "ab", "max_abs_difference": 3e-06, "tolerance": 0.0005, "cosine": 0.75}
    write_record(built.build / "model.onnx.json", "export", difference)
    assert "ONNX differs from PyTorch by 3e-06 of 0.0005 allowed, in the output" in built.write().text


def test_a_model_that_is_an_onnx_file(built: Built) -> None:
    """The page shows only commands that accept such a model."""
    model = f"{{NAME: onnx, NUM_CLASSES: {CLASSES}, IMAGE_SIZE: [8, 8]}}"
    built.cfg.write_text(f"MODEL: {model}\nINPUT: {{RESIZE: 9, MEAN: [0, 0, 0], STD: [1, 1, 1]}}\n")
    commands = " ".join(built.write().pre)
    assert "REFERENCE=onnx" in commands and "REFERENCE=torch" not in commands and "make train" not in commands
    assert "make precision" in commands and "PRECISION=int8" in commands
    built.change(model={"opset": "18"})
    commands = " ".join(built.write().pre)
    assert "make precision" not in commands and "int8" not in commands and "PRECISION=fp16 KEEP_FLOAT=auto" in commands


@pytest.mark.parametrize("parts", [False, True])
def test_the_config_of_a_model_that_make_onnx_did_not_export(parts: bool, built: Built) -> None:
    """Its metadata lacks the hash of the config. The manifest has it; with SHARDS, each part has it."""
    path = built.metrics.with_suffix("") / "parts/1-of-1.json" if parts else built.run.manifest
    changed = {"parts": {path.name: sha256_file(path)}} if parts else {"manifest_sha256": sha256_file(path)}
    evaluated = json.loads(built.metrics.read_text())["evaluated"]
    built.change(model={}, evaluated={**evaluated, "manifest_sha256": "of another", **changed})
    page = built.write()
    shown = f"SHA-256 of its MODEL and INPUT without CLASS_NAMES: {built.run.config_sha256}"
    assert shown in page.text and path.name in page.text
    built.change(evaluated={**evaluated, "manifest_sha256": "of another"})
    assert "SHA-256 of its MODEL and INPUT without CLASS_NAMES: unknown" in built.write().text


def test_no_class_with_an_error() -> None:
    right = ClassPrediction("a.png", 1, 0, [1, 0], [0.75, 0.25], [9, 9])
    wrong = ClassPrediction("b.png", 0, 1, [1, 0], [0.75, 0.25], [9, 9])
    assert classes.collect([right], [])["worst"] == []
    assert [row["label"] for row in classes.collect([right, wrong], [])["worst"]] == [0]
