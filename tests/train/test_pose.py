"""train/pose.py and train/pose_data.py: a short training learns, repeats and resumes; faults are one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import people
from hrnet.cli import UserError
from hrnet.config import CONFIGS, load_config
from hrnet.io.files import locked
from hrnet.nets import checkpoint
from hrnet.pose.joints import COUNT
from tests import tiny
from train import pose, pose_data
from train.pose_augment import Motion

ANNOTATIONS = "annotations/person_keypoints_train2017.json"
TRAINING = """
TRAIN: {LR: 0.01, LR_STEP: [], IMAGES_PER_GPU: 4, END_EPOCH: 4}
LOSS: {AE_LOSS_TYPE: exp}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose") / "people"
    given = ["--output", str(folder), "--split", "train2017", "--images", "10", "--size", "64", "--seed", "3"]
    assert people.main(given) == 0
    return folder


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tiny.write_pose_config(tmp_path, COUNT)
    side = f"INPUT_SIZE: {tiny.SIDE}"
    path.write_text(path.read_text().replace(side, f"{side}\n  SIGMA: 2") + TRAINING)
    return path


def train(dataset: Path, cfg: Path, output: Path, *more: str) -> int:
    return pose.main(["--dataset", str(dataset), "--cfg", str(cfg), "--output", str(output), *more])


def log_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{output}.jsonl").read_text().splitlines()]


def without_speed(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "images_per_second"} for record in log]


def test_a_killed_training_resumes_to_the_same_weights(
    dataset: Path, cfg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole.pth", tmp_path / "killed.pth"
    assert train(dataset, cfg, whole) == 0
    told = capsys.readouterr().out
    assert "epoch 4 of 4: heatmap1 " in told and f"wrote {whole} (0.05 M parameters, 4 epochs of " in told
    log = log_of(whole)
    terms = ["heatmap1", "push1", "pull1", "heatmap2"]
    assert list(log[0]) == ["epoch", *terms, "learning_rate", "images_per_second"]
    assert [record["epoch"] for record in log] == [1, 2, 3, 4]
    assert sum(log[3][term] for term in terms) < 0.9 * sum(log[0][term] for term in terms)
    assert not Path(f"{whole}.state").exists()

    keep = pose.keep

    def keep_and_die(*given: Any) -> None:
        keep(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pose, "keep", keep_and_die)
        assert train(dataset, cfg, killed) == 130
    assert not killed.exists()
    capsys.readouterr()
    assert train(dataset, cfg, killed) == 0
    assert f"{killed}.state: resumes after epoch 1\n" in capsys.readouterr().out
    assert killed.read_bytes() == whole.read_bytes()
    assert without_speed(log_of(killed)) == without_speed(log)


def test_two_trainings_of_one_checkpoint_exclude_each_other(
    dataset: Path, cfg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "out.pth_lock"):
        assert train(dataset, cfg, tmp_path / "out.pth") == 2
    told = f"{tmp_path / 'out.pth_lock'}: another run, or the tool of a killed one, is still at work\n"
    assert capsys.readouterr().err == f"train.pose: error: {told}"
    assert not (tmp_path / "out.pth").exists()


def test_another_config_starts_afresh(
    dataset: Path, cfg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(cfg)
    pictures = pose_data.read_pictures(dataset, "train2017")
    one, state = pose.settings_sha256(config, pictures, None, 1), pose.start(config, None)
    pose.keep(state._replace(log=[{"epoch": 1}]), tmp_path / "x.state", one)
    assert pose.resume(state, tmp_path / "x.state", one).log == [{"epoch": 1}]
    others = [pose.settings_sha256(config, pictures[1:], None, 1), pose.settings_sha256(config, pictures, None, 2)]
    others.append(pose.settings_sha256(load_config(CONFIGS / "demo_pose.yaml"), pictures, None, 1))
    assert len({one, *others}) == 4
    capsys.readouterr()
    assert pose.resume(state, tmp_path / "x.state", others[0]).log == []
    line = f"{tmp_path / 'x.state'}: of another config or of other annotations; the training starts afresh\n"
    assert capsys.readouterr().out == line
    (tmp_path / "x.state").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"x\.state: is no state of a training; rm .*x\.state to start afresh"):
        pose.resume(state, tmp_path / "x.state", one)


def test_learning_rates(cfg: Path) -> None:
    settings = load_config(cfg).TRAIN.clone()
    settings.defrost()
    settings.LR, settings.END_EPOCH = 0.5, 10
    rates = [pose.learning_rate(epochs, settings) for epochs in (0, 0.5, 1, 5.5, 10)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    settings.LR_STEP = [2, 4]
    rates = [pose.learning_rate(epochs, settings) for epochs in (0, 1.9, 2, 3.9, 4, 9)]
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_targets_stand_where_people_are(dataset: Path, cfg: Path) -> None:
    """Of the picture as it is: each marked joint's cell holds 1, and its tag's place is that cell."""
    config = load_config(cfg)
    picture = next(each for each in pose_data.read_pictures(dataset, "train2017") if len(each.annotations) > 1)
    pixels = pose_data.open_picture(picture.path)
    height, width = pixels.shape[:2]
    motion = Motion(width / 2, height / 2, min(width, height), 1, 0, False)
    inputs, targets = pose_data.example(pixels, picture.annotations, motion, config)
    assert (inputs.shape, inputs.dtype) == ((3, 64, 64), np.float32)
    for cells, target in zip((16, 32), targets):
        assert target.heatmaps.shape == (COUNT, cells, cells) and target.judged.shape == (cells, cells)
        marked = 0
        for person in picture.annotations:
            for joint, (x, y, flag) in enumerate(np.array(person["keypoints"]).reshape(-1, 3)):
                column, row = (x - (width - 64) / 2) * cells / 64, (y - (height - 64) / 2) * cells / 64
                if flag and 0 <= column < cells and 0 <= row < cells:
                    column, row = (int(value + 1e-6) for value in (column, row))
                    assert target.heatmaps[joint, row, column] == 1
                    assert (target.places == joint * cells**2 + row * cells + column).any()
                    marked += 1
        assert marked == (target.places >= 0).sum() > COUNT


def test_each_picture_once_an_epoch(dataset: Path, cfg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, config, opened = pose_data.read_pictures(dataset, "train2017"), load_config(cfg), []
    opener = pose_data.open_picture

    def note(path: Path) -> np.ndarray:
        opened.append(path)
        return opener(path)

    monkeypatch.setattr(pose_data, "open_picture", note)
    orders, inputs = [], []
    for epoch in (0, 1, 0):
        opened.clear()
        given = list(pose_data.batches(pictures, 0, epoch, config))
        inputs.append(torch.cat([batch for batch, _ in given]))
        assert [len(batch) for batch, _ in given] == [4] * (len(pictures) // 4)
        assert len(set(opened)) == len(opened) == len(inputs[-1])
        orders.append(list(opened))
    assert orders[0] != orders[1] and orders[0] == orders[2] and torch.equal(inputs[0], inputs[2])


def test_a_start_from_weights_of_another_width(
    dataset: Path, cfg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    checkpoint.save(tiny.build_pose(tmp_path / "other"), tmp_path / "five_joints.pth")
    assert train(dataset, cfg, tmp_path / "x.pth", "--weights", str(tmp_path / "five_joints.pth")) == 2
    told = capsys.readouterr().err
    assert "five_joints.pth: does not fit the net: " in told and "is --cfg the config" in told and told.count("\n") == 1


def write_to_pictures(root: Path, content: bytes) -> None:
    for path in root.glob("images/*/*"):
        path.write_bytes(content)


FAULTS = {
    "no annotations": (lambda root: (root / ANNOTATIONS).unlink(), "no annotation file"),
    "nobody": (lambda root: rewrite(root, annotations=[]), "too few images with people (expected a batch (TRAIN."),
    "no keypoints": (lambda root: rewrite(root, keypoints=[1, 2]), "entry 0: keypoints is not COCO's (found [1, 2])"),
    "no outline": (lambda root: rewrite(root, segmentation=None), "entry 0: segmentation is not COCO's (found null)"),
    "no pictures": (lambda root: shutil.rmtree(root / "images"), ".jpg: no such image; is --dataset"),
    "no JPEGs": (lambda root: write_to_pictures(root, b"x"), ".jpg: is no readable image: "),
}


def rewrite(root: Path, **values: Any) -> None:
    """Change the annotation file: all annotations, or what the first one says."""
    content = json.loads(root.joinpath(ANNOTATIONS).read_text())
    if "annotations" in values:
        content.update(values)
    else:
        content["annotations"][0].update(values)
    root.joinpath(ANNOTATIONS).write_text(json.dumps(content))


@pytest.mark.parametrize("error", FAULTS)
def test_faults_of_a_data_set_are_one_line(
    error: str, cfg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, line = FAULTS[error]
    folder = tmp_path / "people"
    given = ["--output", str(folder), "--split", "train2017", "--images", "6", "--size", "64", "--seed", "3"]
    assert people.main(given) == 0
    capsys.readouterr()
    break_it(folder)
    assert train(folder, cfg, tmp_path / "x.pth") == 2
    told = capsys.readouterr().err
    assert line in told and told.count("\n") == 1
    assert not (tmp_path / "x.pth").exists()


REFUSED = {
    ("LOSS", "AE_LOSS_TYPE", "mean"): "LOSS.AE_LOSS_TYPE (expected exp or max, found mean)",
    ("LOSS", "PUSH_LOSS_FACTOR", (0.1,)): "LOSS.PUSH_LOSS_FACTOR (expected 2 values, found [0.1])",
    ("TRAIN", "OPTIMIZER", "sgd"): "TRAIN.OPTIMIZER (expected adam, found sgd)",
    ("DATASET", "SCALE_TYPE", "mid"): "DATASET.SCALE_TYPE (expected short or long, found mid)",
    ("MODEL", "NUM_JOINTS", 14): "MODEL.NUM_JOINTS (expected 17, found 14)",
}


@pytest.mark.parametrize("node, key, value", REFUSED)
def test_what_is_not_done_is_refused(node: str, key: str, value: Any, cfg: Path) -> None:
    config = load_config(cfg).clone()
    config.defrost()
    config[node][key] = value
    with pytest.raises(UserError) as caught:
        pose.check_config(config, cfg)
    assert str(caught.value) == f"{cfg}: {REFUSED[node, key, value]}"
