"""postprocess/predict.py: what is printed and written for both tasks, and that the folder is replaced as a whole."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.io.coco import read_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from hrnet.io.runs import RunRecord
from postprocess import pose, predict
from tests.support.classification_run import Run
from tests.support.pose_run import PoseRun, spread

LOGITS = np.array([[0, 5, 1, 2, 3, 4], [9, 0, 0, 0, 0, 0]], dtype=np.float32)
NAMES = ["cat", "dog", 'the "big", one', "fish", "猫", "kite"]


def unlabelled(manifest: Path, records: list[Path]) -> list[str]:
    """Remove the labels of all images of a manifest and make their paths absolute; returns the paths."""
    before = Manifest.read(manifest)
    root = manifest.parent.parent
    images = [dataclasses.replace(image, source=str(root / image.source), label=None) for image in before.images]
    after = dataclasses.replace(before, dataset="images", images=images)
    after.write(manifest)
    write_record(manifest.with_name("rejected.json"), "rejected", {"images": {"bad.jpg": "empty file"}})
    for path in records:
        dataclasses.replace(RunRecord.read(path), manifest_sha256=sha256_file(manifest)).write(path)
    for image in images:
        Path(image.source).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (image.width, image.height), 60).save(image.source)
    return [image.source for image in images]


@pytest.fixture
def classes(tmp_path: Path) -> Run:
    run = Run(tmp_path, LOGITS, [1, 3], classes=6)
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    run.cfg.write_text(run.cfg.read_text() + "INPUT: {CLASS_NAMES: names.txt}\n")
    unlabelled(run.manifest, [run.record])
    return run


def call(run: Run, *more: object) -> int:
    given = ["--cfg", run.cfg, "--manifest", run.manifest, "--run", run.record, "--output", run.root / "predict"]
    return predict.main([*map(str, given), *map(str, more)])


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (("beagle", "collie"), "collie"),  # the image is of class 1
        (("0", "1"), "class 1"),
        (("beagle", "beagle"), "class 1"),
    ],
)
def test_classes_have_the_names_of_the_class_directories(
    folders: tuple[str, str], name: str, classes: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes.cfg.write_text("MODEL: {NUM_CLASSES: 6}\n")
    other = Run(make_folder(tmp_path / "labelled"), LOGITS, [0, 1], classes=6).manifest
    before = Manifest.read(other)
    images = [dataclasses.replace(each, source=f"val/{n}/x.png") for n, each in zip(folders, before.images)]
    dataclasses.replace(before, images=images).write(other)
    prep = other.parent
    assert call(classes, "--labelled", prep) == 0
    printed = capsys.readouterr().out
    assert f"img0.JPEG: {name} " in printed and (str(other) in printed) == (name != "class 1")
    changed = [dataclasses.replace(each, source=f"val/other{each.label}/x.png") for each in before.images]
    second = make_folder(tmp_path / "second") / "manifest.json"
    dataclasses.replace(before, images=changed).write(second)
    assert call(classes, "--labelled", prep, second.parent) == 0
    # if the inputs in two --labelled directories give a class different names, it has no name
    last = "other1" if name == "class 1" else "class 1"
    assert f"img0.JPEG: {last} " in capsys.readouterr().out
    dataclasses.replace(before, images=images, classes=7).write(other)
    assert call(classes, "--labelled", prep) == 0 and "img0.JPEG: class 1 " in capsys.readouterr().out
    assert call(classes, "--labelled", "none") == 0 and "img0.JPEG: class 1 " in capsys.readouterr().out


def test_classes(classes: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(classes) == 0
    powers = np.exp(np.float64(LOGITS[0]))
    share = [f"{powers[index] / powers.sum():.2%}" for index in (1, 5, 4, 3, 2)]
    lines = capsys.readouterr().out.splitlines()
    first, folder = str(classes.root / "val/img0.JPEG"), classes.root / "predict"
    best = [NAMES[index] for index in (1, 5, 4, 3, 2)]
    assert lines[0] == f"{first}: " + ", ".join(f"{name} {percent}" for name, percent in zip(best, share))
    assert lines[2] == "bad.jpg: rejected: empty file"
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.csv", "predictions.json", "show.png"]
    record = json.loads((folder / "predictions.json").read_text())
    assert (record["kind"], record["name"], record["rejected"]) == ("predictions", "small", {"bad.jpg": "empty file"})
    assert record["images"][0]["classes"] == [1, 5, 4, 3, 2] and record["images"][0]["names"] == best
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "rank", "class", "name", "probability"] and len(rows) == 1 + 2 * 5
    assert rows[5][:4] == [first, "5", "2", NAMES[2]]
    assert float(rows[5][4]) == record["images"][0]["probabilities"][4]


def test_a_background_class_and_no_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, LOGITS, [1, 3], classes=5)
    unlabelled(run.manifest, [run.record])
    assert call(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ": class 0 " in lines[0] and ": background " in lines[1]


def test_a_failed_run_leaves_the_old_folder(classes: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = classes.root / "predict"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    image = classes.root / "val/img1.JPEG"
    content = image.read_bytes()
    image.unlink()
    assert call(classes) == 2
    assert str(image) in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    image.write_bytes(content)
    assert call(classes) == 0
    assert not (folder / "old.txt").exists() and len(list(folder.iterdir())) == 3
    assert not [path for path in classes.root.iterdir() if path.name.startswith(".predict")]


def test_inputs_of_a_data_set_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, LOGITS, [1, 3], classes=6)
    assert call(run) == 2
    assert str(run.manifest) in capsys.readouterr().err
    assert not (run.root / "predict").exists()


def test_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the same outputs, predict writes the same people as postprocess.pose, as COCO results."""
    run = PoseRun(tmp_path, spread(2)).infer()
    assert pose.main(run.decode_arguments()) == 0
    wanted = read_keypoints(run.part.with_name("1-of-1.keypoints.json"))
    runs = [folder.with_name("run_run.json") for folder in (run.folder, run.flipped)]
    manifest = Manifest.read(run.manifest)
    sources = unlabelled(run.manifest, [])
    for path, each in zip(runs, (Manifest.read(run.manifest), Manifest.read(run.manifest).flip())):
        dataclasses.replace(RunRecord.read(path), manifest_sha256=each.sha256()).write(path)
    capsys.readouterr()
    given = ["--cfg", run.cfg, "--manifest", run.manifest, "--run", runs[0], "--run_flip", runs[1], "--workers", 1]
    assert predict.main([*map(str, given), "--output", str(tmp_path / "predict")]) == 0
    assert read_keypoints(tmp_path / "predict/keypoints.json") == wanted
    record = json.loads((tmp_path / "predict/predictions.json").read_text())
    assert record["flip"] is True and [each["image"] for each in record["images"]] == sources
    assert [each["image_id"] for each in record["images"]] == [image.image_id for image in manifest.images]
    lines = capsys.readouterr().out.splitlines()
    for line, each, source in zip(lines, record["images"], sources):
        scores = sorted((p["score"] for p in wanted if p["image_id"] == each["image_id"]), reverse=True)
        assert each["scores"] == [score for score in scores if score > 0.1]
        people = "1 person" if len(each["scores"]) == 1 else f"{len(each['scores'])} people"
        assert line == f"{source}: {people} ({', '.join(f'{score:.2f}' for score in each['scores'])})"
    assert (len(record["images"][0]["scores"]), len(record["images"][1]["scores"])) == (1, 2)
