"""postprocess/merge.py: any split gives the result of all images; missing, duplicate and foreign parts are named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet.io.coco import read_keypoints, write_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.parts import Part, keypoints_path, predictions_path, reference_keypoints_path, reference_path
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions, write_predictions
from hrnet.io.records import write_record
from hrnet.pose.average_precision import evaluate, ground_truth, percentages
from hrnet.shards import Shard, list_sha256
from postprocess import classification, merge
from tests.support.classification_run import Run, labels_of, logits_of
from tests.support.coco_scenes import exact, results, scene
from tests.support.examples import examples
from tests.support.pose_run import OTHER, PoseRun

IMAGES, CLASSES = 13, 7
SAME = ("metrics", "interval95", "images", "counts", "gate", "reference", "drop", "verdict", "images_sha256")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over all images, evaluated."""
    logits = logits_of(IMAGES, CLASSES)
    labels = [int(row.argmax()) for row in logits]
    labels[::2] = labels_of(IMAGES, CLASSES)[::2]
    run = Run(tmp_path_factory.mktemp("whole"), logits, labels, CLASSES)
    manifest = Manifest.read(run.manifest)
    dataclasses.replace(manifest, rejected=0).write(run.manifest)
    run.rewrite(manifest_sha256=sha256_file(run.manifest))
    assert classification.main(run.arguments()) == 0
    assert 0 < run.metrics()["metrics"]["top1"] < 100
    return run


def divide(run: Run, folder: Path, count: int) -> Path:
    """Predict each of `count` parts as `make part` does; the outputs are those of the whole run."""
    manifest, record = Manifest.read(run.manifest), run.run
    listed = list_sha256((image.source, image.label) for image in manifest.images)
    for number in range(1, count + 1):
        start, end = Shard(number, count).bounds(len(manifest.images))
        images = manifest.images[start:end]
        path = make_folder(folder / f"prep{number}") / "manifest.json"
        facts = {"shard": [number, count], "listed": len(manifest.images), "list_sha256": listed}
        dataclasses.replace(manifest, images=images, **facts).write(path)  # type: ignore[arg-type]
        write_record(path.with_name("rejected.json"), "rejected", {"images": {}})
        files = {image.stem: record.files[image.stem] for image in images}
        run_path = run.record.with_name("emulator-bs1_run.json")
        kept = run_path.read_bytes()
        run.rewrite(manifest_sha256=sha256_file(path), images=len(images), files=files)
        part = folder / "parts" / f"{Shard(number, count).name}.json"
        assert (
            classification.main(
                ["--cfg", str(run.cfg), "--manifest", str(path), "--run", str(run_path), "--part", str(part)]
            )
            == 0
        )
        run_path.write_bytes(kept)
    return folder / "parts"


def join(run: Run | PoseRun, parts: Path, count: int, *more: str) -> int:
    named = {"--cfg": run.cfg, "--parts": parts, "--output": parts.parent / "merged.json", "--dataset": run.root}
    return merge.main([*(str(word) for pair in named.items() for word in pair), "--shards", str(count), *more])


def metrics(parts: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((parts.parent / "merged.json").read_text())
    return content


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(count=st.integers(1, IMAGES))
def test_any_split_equals_the_whole(count: int, whole: Run, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "parts", ignore_errors=True)
    parts = divide(whole, tmp_path, count)
    assert join(whole, parts, count) == 0
    for name in ("predictions.jsonl", "result.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (whole.output.with_suffix("") / name).read_bytes()
    assert {key: metrics(parts)[key] for key in SAME} == {key: whole.metrics()[key] for key in SAME}


@pytest.fixture
def divided(whole: Run, tmp_path: Path) -> Path:
    """Four parts."""
    return divide(whole, tmp_path, 4)


@given(missing=st.sets(st.integers(1, 4), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_missing_parts_are_named(
    missing: set[int], divided: Path, whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = {number: (divided / f"{number}-of-4.json").rename(divided / f"hidden{number}") for number in missing}
    assert join(whole, divided, 4) == 2
    for number, path in hidden.items():
        path.rename(divided / f"{number}-of-4.json")
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"make part SHARD={min(missing)}/4" in line
    assert not (divided.parent / "merged.json").exists()


def rewrite(**changes: Any) -> Callable[[Path], object]:
    """Another record for part 3."""
    return lambda parts: dataclasses.replace(Part.read(parts / "3-of-4.json"), **changes).write(parts / "3-of-4.json")


def duplicate(parts: Path) -> None:
    for name in ("json", "predictions.jsonl"):
        shutil.copy(parts / f"2-of-4.{name}", parts / f"3-of-4.{name}")


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {  # a change, and what the line names
    "another image list": (rewrite(list_sha256=OTHER), "image list"),
    "a longer image list": (rewrite(listed=14), "image list"),
    "another config": (rewrite(config_sha256=OTHER), "config"),
    "other weights": (rewrite(weights_sha256=OTHER), "weights"),
    "another precision": (rewrite(model="bs16-float32-fp16.onnx"), "found bs16-float32-fp16.onnx"),
    "another compiled file": (rewrite(model_sha256=OTHER), "compiled model"),
    "another input dtype": (rewrite(dtype="uint8"), "found uint8"),
    "another tool": (rewrite(tool="emulator 2"), "found emulator 2"),
    "other code": (rewrite(code_sha256=OTHER), "code"),
    "a duplicate part": (duplicate, "found 2/4"),
    "damaged predictions": (lambda parts: (parts / "3-of-4.predictions.jsonl").write_text(""), "predictions.jsonl"),
    "no predictions": (lambda parts: (parts / "3-of-4.predictions.jsonl").unlink(), "predictions.jsonl"),
    "a damaged record": (lambda parts: (parts / "3-of-4.json").write_text("{"), "not JSON"),
    "another record": (lambda parts: write_record(parts / "3-of-4.json", "run", {}), "'part'"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_part_is_rejected_and_named(
    what: str, divided: Path, whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    change, named = FOREIGN[what]
    change(divided)
    assert join(whole, divided, 4) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"{divided}/3-of-4." in line and named in line
    assert not (divided.parent / "merged.json").exists()


def test_parts_of_another_version_are_rejected(
    divided: Path, whole: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(merge, "stages_sha256", lambda task: OTHER)
    assert join(whole, divided, 4) == 2
    assert "code" in capsys.readouterr().err


def test_parts_of_another_config_are_rejected(
    divided: Path, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tmp_path / "small.yaml"
    cfg.write_text(f"MODEL: {{NUM_CLASSES: {CLASSES}}}\nINPUT: {{RESIZE: 300}}")
    assert join(whole, divided, 4, "--cfg", str(cfg)) == 2
    assert str(cfg) in capsys.readouterr().err


def test_rejected_images_of_all_parts_are_added(divided: Path, whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in ((2, "val/broken.JPEG"), (3, "val/empty.JPEG")):
        path = divided / f"{number}-of-4.json"
        dataclasses.replace(Part.read(path), rejected=1, reasons={name: "empty file"}).write(path)
    assert join(whole, divided, 4, "--max_rejected", "1") == 1
    line = capsys.readouterr().err
    assert "val/broken.JPEG" in line and "val/empty.JPEG" in line and "MAX_REJECTED=2" in line
    assert join(whole, divided, 4, "--max_rejected", "2") == 0
    found = metrics(divided)
    assert found["counts"]["rejected"] == 2
    assert found["rejected_in"] == [str(divided / f"{number}-of-4.json") for number in (2, 3)]


def test_a_second_merge_only_touches(divided: Path, whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert join(whole, divided, 4) == 0
    before = (divided.parent / "merged.json").read_bytes()
    capsys.readouterr()
    assert join(whole, divided, 4) == 0
    assert "up to date" in capsys.readouterr().out
    assert (divided.parent / "merged.json").read_bytes() == before


# --- PyTorch's accuracy -----------------------------------------------------------------------------------------------


def write_references(parts: Path, count: int, **changes: Any) -> None:
    """Write a reference for each part: PyTorch has the same hits as the part. `changes` are made only in the
    reference of part 2."""
    for number in range(1, count + 1):
        path = parts / f"{Shard(number, count).name}.json"
        found = list(read_predictions(predictions_path(path), ClassPrediction))
        hits = [sum(each.rank < n for each in found) for n in range(1, 6)]
        content = {
            "metrics": {"top1": 100 * hits[0] / len(found)},
            "hits": hits,
            "predicted": [each.classes[0] for each in found],
            "config_sha256": OTHER,
            "weights_sha256": OTHER,
            "tool": "torch 2",
            "images_sha256": list_sha256((each.source, each.label) for each in found),
        }
        write_record(reference_path(path), "metrics", {**content, **(changes if number == 2 else {})})


def test_references_of_all_parts_are_merged(divided: Path, whole: Run, tmp_path: Path) -> None:
    write_references(divided, 4)
    torch = tmp_path / "reference/all.json"
    assert join(whole, divided, 4, "--measured", str(torch)) == 0
    found = metrics(divided)
    top1 = whole.metrics()["metrics"]["top1"]
    assert found["reference"] == {"top1": top1, "source": "torch 2 on the same images", "changed": 0}
    assert (found["drop"]["points"], found["verdict"]) == (0.0, "pass")
    content = json.loads(torch.read_text())
    assert content["metrics"] == whole.metrics()["metrics"]
    assert content["images_sha256"] == found["images_sha256"]


@pytest.mark.parametrize("changes", [{"weights_sha256": "a"}, {"images_sha256": "a"}, {"tool": "torch 1"}])
def test_a_foreign_reference_is_rejected(
    changes: dict[str, str], divided: Path, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_references(divided, 4, **changes)
    assert join(whole, divided, 4, "--measured", str(tmp_path / "torch.json")) == 2
    assert f"{divided}/2-of-4.reference.json" in capsys.readouterr().err


def test_a_missing_reference_is_rejected(
    divided: Path, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_references(divided, 4)
    (divided / "4-of-4.reference.json").unlink()
    assert join(whole, divided, 4, "--measured", str(tmp_path / "torch.json")) == 2
    line = capsys.readouterr().err
    assert f"{divided}/4-of-4.reference.json" in line and "REFERENCE=torch" in line


# --- pose -------------------------------------------------------------------------------------------------------------

SCENE = scene(5, 9, 5)
PEOPLE = results(SCENE, 1, 6.0)


def divide_people(run: PoseRun, folder: Path, count: int) -> Path:
    """Divide the only part of a run into `count` parts, with a reference for each; return their directory."""
    whole = Part.read(run.part)
    lines, people = (
        list(read_predictions(predictions_path(run.part), PosePrediction)),
        read_keypoints(keypoints_path(run.part)),
    )
    for number in range(1, count + 1):
        start, end = Shard(number, count).bounds(len(lines))
        path = make_folder(folder / "parts") / f"{Shard(number, count).name}.json"
        ids = {line.image_id for line in lines[start:end]}
        write_predictions(predictions_path(path), lines[start:end])
        found = [person for person in people if person["image_id"] in ids]
        write_keypoints(keypoints_path(path), found)
        write_keypoints(reference_keypoints_path(path), [each for each in exact(SCENE) if each["image_id"] in ids])
        hashes = {
            "predictions_sha256": sha256_file(predictions_path(path)),
            "keypoints_sha256": sha256_file(keypoints_path(path)),
        }
        numbers = {"shard": [number, count], "images": end - start, "inferred": end - start}
        dataclasses.replace(whole, **hashes, **numbers, code_sha256=merge.stages_sha256("pose")).write(path)  # type: ignore[arg-type]
        content = {"metrics": {"AP": None}, "tool": "torch 2", "flip": True, "weights_sha256": OTHER}
        content["images_sha256"] = list_sha256((line.source, line.image_id) for line in lines[start:end])
        write_record(reference_path(path), "metrics", content)
    return folder / "parts"


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_people_of_any_split_equal_the_whole(count: int, tmp_path: Path) -> None:
    run = PoseRun(tmp_path, SCENE).find(PEOPLE)
    assert merge.main(run.merge_arguments()) == 0
    parts = divide_people(run, tmp_path / "divided", count)
    assert join(run, parts, count) == 0
    for name in ("predictions.jsonl", "keypoints.json"):
        assert (parts.parent / "merged" / name).read_bytes() == run.predictions.with_name(name).read_bytes()
    expected = json.loads(run.metrics.read_text())
    for key in (*SAME, "people", "gears", "crowds", "keypoints", "worst_images", "flip"):
        assert metrics(parts)[key] == expected[key], key


def test_references_of_pose_parts_are_merged(tmp_path: Path) -> None:
    """PyTorch found all people: AP 100 of all images, although a part without people has no AP."""
    run = PoseRun(tmp_path, SCENE).find(PEOPLE)
    parts = divide_people(run, tmp_path / "divided", 9)
    assert join(run, parts, 9, "--measured", str(tmp_path / "torch.json")) == 0
    ids = [image["id"] for image in SCENE["images"]]
    content = json.loads((tmp_path / "torch.json").read_text())
    assert content["metrics"] == percentages(evaluate(ground_truth(SCENE), exact(SCENE), ids))
    assert metrics(parts)["verdict"] == "fail"
