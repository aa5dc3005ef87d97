"""python -m train.pose in this process: what a run writes, its targets, and what it rejects."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet.cli import UserError
from hrnet.config import load_config
from hrnet.images import open_image
from hrnet.nets import checkpoint, pose
from hrnet.pose.joints import COUNT
from tests.support import tiny
from tests.support.training_sets import people_set, set_up, write_pose_config
from tests.train.calls import error_line, read_metrics, train
from train.pose.augment import Transform
from train.pose.data import AnnotatedImages, example
from train.pose.task import PoseTask

ANNOTATIONS = "annotations/person_keypoints_train2017.json"
TERMS = ["heatmap1", "push1", "pull1", "heatmap2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return set_up("pose", tmp_path)


def error_of(folder: Path, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    return error_line(capsys, lambda: train(folder, *more, task="pose"))


def test_a_run_learns_and_writes_weights_metrics_and_logs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, task="pose") == 0
    screen, out = capsys.readouterr().out, folder / "out"
    log = read_metrics(folder)
    assert list(log[0]) == ["epoch", "lr", "train_loss", *(f"train_{term}" for term in TERMS), "last_loss"]
    assert [record["epoch"] for record in log] == [1, 2, 3, 4]
    assert log[0]["train_loss"] == pytest.approx(sum(log[0][f"train_{term}"] for term in TERMS))
    assert log[3]["train_loss"] < 0.9 * log[0]["train_loss"]
    assert screen.startswith("small, 0.05 M parameters, 10 images: cpu, float32, 1 x batch size 4\nEpoch: [0][0/2]")
    assert re.search(
        r"\nepoch 4 of 4: loss \S+, heatmap1 \S+, push1 \S+, pull1 \S+, heatmap2 \S+, \S+ images/s", screen
    )
    assert f"\nwrote {out / 'small.pth'}\n" in screen and screen == (out / "output/0/train_0.log").read_text()
    assert re.search(r"\nFinal Performance images/sec : \S+\nE2E Training Duration sec : \d+\nwrote ", screen)
    facts = (out / "output/0/small_bs4_1p_acc.log").read_text()
    assert "ActualFPS = " in facts and "Accuracy" not in facts
    checkpoint.load(pose.build(load_config(folder / "small.yaml")), out / "small.pth")
    names = ("small.pth", "checkpoint.pth.tar")
    states = [state.get("state_dict", state) for state in (checkpoint.read(out / name) for name in names)]
    assert all(value.equal(states[1][key]) for key, value in states[0].items())
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pth.tar", "metrics.jsonl", "output", "small.pth"]


@pytest.mark.parametrize("name", ["out.state", "out/small.pth.state"])
def test_a_state_of_release_0_1_is_rejected(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"state")
    error = error_of(folder, capsys)
    assert f"{folder / name}: " in error and error.endswith(f"rm {folder / name}\n")


def test_a_file_as_output_is_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--output {folder / 'demo_pose'}\n" in error_of(folder, capsys, "--output", folder / "demo_pose.pth")


@pytest.mark.parametrize("name, value", [("IMAGES_PER_GPU", 0), ("LR", -1), ("OPTIMIZER", "lars"), ("LR_STEP", [0])])
def test_invalid_training_keys_are_rejected(name: str, value: object, tmp_path: Path) -> None:
    cfg = write_pose_config(tmp_path, f"TRAIN: {{{name}: {value}}}\n")
    with pytest.raises(UserError) as caught:
        load_config(cfg)
    assert (caught.value.where, caught.value.what) == (cfg, f"invalid TRAIN.{name}")


def test_a_run_with_a_one_cycle_learning_rate_rejects_another_number_of_epochs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "--train_epochs", 1, task="pose") == 0
    error = error_of(folder, capsys, "--train_epochs", 2)
    assert "END_EPOCH, the length of the learning rate's cycle (expected 2, found 1)" in error


def test_sgd_trains(folder: Path) -> None:
    cfg = folder / "small.yaml"
    cfg.write_text(cfg.read_text().replace("LR: 0.01", "OPTIMIZER: sgd, LR: 0.01"))
    assert train(folder, task="pose") == 0
    assert read_metrics(folder)[-1]["train_loss"] < read_metrics(folder)[0]["train_loss"]


def test_precision_follows_the_config(folder: Path) -> None:
    task = PoseTask(load_config(folder / "small.yaml"))
    assert [task.precision(asked) for asked in ("auto", "mixed", "fp32")] == ["fp32", "mixed", "fp32"]
    (folder / "small.yaml").write_text((folder / "small.yaml").read_text() + "FP16: {ENABLED: true}\n")
    task = PoseTask(load_config(folder / "small.yaml"))
    assert [task.precision(asked) for asked in ("auto", "mixed", "fp32")] == ["mixed", "mixed", "fp32"]


def test_targets_are_where_the_joints_are(folder: Path) -> None:
    """Without augmentation, the heatmap is 1 in the cell of each labelled joint, and the index of the joint's tag is
    that cell."""
    config = load_config(folder / "small.yaml")
    samples = AnnotatedImages(folder / "data", config)
    number = next(i for i, people in enumerate(samples.annotations) if len(people) > 1)
    pixels = np.asarray(open_image(samples.files[number]).convert("RGB"))
    height, width = pixels.shape[:2]
    transform = Transform(width / 2, height / 2, min(width, height), 1, 0, False)
    inputs, targets = example(pixels, samples.annotations[number], transform, config)
    assert (tuple(inputs.shape), inputs.numpy().dtype) == ((3, 64, 64), np.float32)
    for cells, target in zip((16, 32), targets):
        assert target.heatmaps.shape == (COUNT, cells, cells) and target.mask.shape == (cells, cells)
        labelled = 0
        for person in samples.annotations[number]:
            for joint, (x, y, flag) in enumerate(np.array(person["keypoints"]).reshape(-1, 3)):
                column, row = (x - (width - 64) / 2) * cells / 64, (y - (height - 64) / 2) * cells / 64
                if flag and 0 <= column < cells and 0 <= row < cells:
                    column, row = (int(value + 1e-6) for value in (column, row))
                    assert target.heatmaps[joint, row, column] == 1
                    assert (target.indices == joint * cells**2 + row * cells + column).any()
                    labelled += 1
        assert labelled == (target.indices >= 0).sum() > COUNT


def rewrite(root: Path, **values: Any) -> None:
    """Change the annotation file: all annotations, or fields of the first one."""
    content = json.loads((root / ANNOTATIONS).read_text())
    if "annotations" in values:
        content.update(values)
    else:
        content["annotations"][0].update(values)
    (root / ANNOTATIONS).write_text(json.dumps(content))


def write_to_images(root: Path, content: bytes) -> None:
    for path in root.glob("images/*/*"):
        path.write_bytes(content)


BREAK: dict[str, tuple[Callable[[Path], None], str]] = {
    "no annotations": (lambda root: (root / ANNOTATIONS).unlink(), f"no {ANNOTATIONS}"),
    "nobody": (lambda root: rewrite(root, annotations=[]), f"{ANNOTATIONS}: too few images (expected at least 4"),
    "invalid keypoints": (lambda root: rewrite(root, keypoints=[1, 2]), "keypoints"),
    "no outline": (lambda root: rewrite(root, segmentation=None), "segmentation"),
    "no images": (lambda root: shutil.rmtree(root / "images"), "no images/train2017"),
    "not JPEG": (lambda root: write_to_images(root, b"x"), ".jpg: not a readable image"),
}


@pytest.mark.parametrize("name", BREAK)
def test_an_invalid_data_set_is_reported_in_one_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, expected = BREAK[name]
    break_it(folder / "data")
    assert expected in error_of(folder, capsys)
    assert not (folder / "out/small.pth").exists()


REJECTED = {
    ("LOSS", "PUSH_LOSS_FACTOR", (0.1,)): ("2 values", [0.1]),
}


@pytest.mark.parametrize("node, key, value", REJECTED)
def test_unsupported_settings_are_rejected(node: str, key: str, value: Any, tmp_path: Path) -> None:
    cfg = write_pose_config(tmp_path)
    config = load_config(cfg).clone()
    config.defrost()
    config[node][key] = value
    with pytest.raises(UserError) as caught:
        PoseTask(config).check(cfg)
    assert caught.value.where == cfg and f"{node}.{key}" in caught.value.what
    assert (caught.value.expected, caught.value.found) == REJECTED[node, key, value]


def test_weights_of_a_different_width_are_rejected(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    net = pose.build(load_config(tiny.write_pose_config(other)))
    net.conv1 = torch.nn.Conv2d(3, 4, 3)
    checkpoint.save(net, other / "narrow.pth")
    assert f"{other / 'narrow.pth'}: " in error_of(folder, capsys, "--weights", other / "narrow.pth")


def test_all_missing_images_are_named_before_the_first_step(tmp_path: Path) -> None:
    people_set(tmp_path / "data")
    folder = tmp_path / "data/images/train2017"
    first, second = sorted(folder.iterdir())[:2]
    first.unlink()
    second.unlink()
    second.symlink_to("nowhere")
    with pytest.raises(UserError) as caught:
        AnnotatedImages(tmp_path / "data", load_config(write_pose_config(tmp_path)))
    assert caught.value.where == folder
    assert caught.value.found == f"{first.name}: no such image, {second.name}: a broken link"


def test_sizes_of_rotated_images_are_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The annotation file has the width and height of the turned image, the pixels are read as they are stored."""
    content = json.loads((folder / "data" / ANNOTATIONS).read_text())
    for image in content["images"]:
        path = folder / "data/images/train2017" / image["file_name"]
        with Image.open(path) as stored:
            exif = stored.getexif()
            exif[0x0112] = 6
            stored.resize((70, 64)).save(path, exif=exif)
    rewrite(folder / "data", annotations=[], images=[{**each, "width": 64, "height": 70} for each in content["images"]])
    rewrite(folder / "data", annotations=content["annotations"])
    error = error_of(folder, capsys)
    assert "70 x 64 pixels, but 64 x 70" in error and "EXIF orientation 6" in error and ANNOTATIONS in error


def test_only_images_with_people_are_used(tmp_path: Path) -> None:
    people_set(tmp_path / "data")
    content = json.loads((tmp_path / "data" / ANNOTATIONS).read_text())
    first = content["images"][0]["id"]
    rewrite(tmp_path / "data", annotations=[each for each in content["annotations"] if each["image_id"] != first])
    samples = AnnotatedImages(tmp_path / "data", load_config(write_pose_config(tmp_path)))
    assert len(samples) == len(content["images"]) - 1
    assert content["images"][0]["file_name"] not in {path.name for path in samples.files}
