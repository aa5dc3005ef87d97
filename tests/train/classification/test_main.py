"""python -m train.classification in this process: what a run writes, how it resumes, what it rejects."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch

from hrnet import datasets
from hrnet.config import load_config
from hrnet.nets import checkpoint, classification
from tests.support.training_sets import CLASSES, CONFIG, set_up
from tests.train.calls import error_line, read_metrics, train

STEP = (
    r"Epoch: \[\d+\]\[\d+/\d+\]\t\tTime \d+\.\d{3}s\t\tFPS \d+\.\d\t\tData \d+\.\d{3}s\t\tLoss \d+\.\d{5}\t\t"
    r"Accuracy@1 \d+\.\d{3}\t\t"  # no Accuracy@5: there are three classes
)
AVERAGE = r"\n\nData Average :\t\tTime_Avg \S+s\t\tFps_Avg \S+\t\tLoss \S+\t\tAccuracy@1_Avg \S+\t\t\n"
TEST = r"Test: Time \d+\.\d{3}\tLoss \d+\.\d{4}\tError@1 \d+\.\d{3}\tAccuracy@1 (\d+\.\d{3})\t\n"
BLOCK = (
    r"------------------ Final result ------------------\n"
    r"Final Performance images/sec : \d+\.\d\nFinal Train Accuracy : (\d+\.\d{3})\nE2E Training Duration sec : \d+\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return set_up("classification", tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and a finished run."""
    folder = set_up("classification", tmp_path_factory.mktemp("trained"))
    assert train(folder) == 0
    return folder


def error_of(folder: Path, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    return error_line(capsys, lambda: train(folder, *more))


def test_a_run_learns_and_writes_logs_and_metrics(trained: Path) -> None:
    out = trained / "out"
    figures = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in figures] == [1, 2, 3, 4]
    assert [each["lr"] for each in figures] == pytest.approx([0.05, 0.05, 0.05, 0.005])
    assert figures[-1]["train_loss"] < figures[0]["train_loss"]
    assert figures[-1]["train_top1"] > 80 and {each["images"] for each in figures} == {9}
    log = (out / "output/0/train_0.log").read_text()
    lines = log.splitlines()
    assert lines[0] == "small, 0.07 M parameters, 24 images: cpu, float32, 1 x batch size 8"
    assert [re.findall(r"\[.*\]", line)[0] for line in lines if re.fullmatch(STEP, line)] == [
        f"[{epoch}][{step}/3]" for epoch in range(4) for step in (0, 2)
    ]
    assert len(re.findall(AVERAGE, log)) == 4
    assert re.findall(TEST, log) == [f"{each['top1']:.3f}" for each in figures]
    assert re.search(BLOCK, log)[1] == f"{figures[-1]['top1']:.3f}"
    facts = (out / "output/0/small_bs8_1p_acc.log").read_text()
    assert f"\nTrainAccuracy = {figures[-1]['top1']:.3f}\nActualLoss = {figures[-1]['last_loss']:.5f}\n" in facts
    assert re.search(r"\nepoch 4 of 4: loss \S+, Top-1 \S+% of 9 images, best \S+%, \S+ images/s, 0 min left\n", log)


def test_both_checkpoints_are_readable_by_pth2onnx(trained: Path) -> None:
    expected = classification.build(load_config(trained / "small.yaml")).state_dict()
    for name in ("checkpoint.pth.tar", "model_best.pth.tar"):
        state = checkpoint.read(trained / "out" / name)
        state = state.get("state_dict", state)
        assert {key: value.dtype for key, value in state.items()} == {
            key: value.dtype for key, value in expected.items()
        }
    content = torch.load(trained / "out/checkpoint.pth.tar", weights_only=True)
    assert content["epoch"] == 4 and content["perf"] == max(each["top1"] for each in read_metrics(trained))
    assert not list((trained / "out").glob(".*"))


def test_evaluation_equals_the_validation_of_training(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(trained, "--eval") == 0
    best = max(each["top1"] for each in read_metrics(trained))
    screen = capsys.readouterr().out
    assert f"\nFinal Train Accuracy : {best:.3f}\n" in screen and "Final Performance" not in screen
    facts = (trained / "out/output/0/small_bs4_1p_eval.log").read_text()
    assert f"\nTrainAccuracy = {best:.3f}\nActualLoss = " in facts and "FPS" not in facts
    answers = dict(map(str.split, (trained / "out/output/0/eval_0.txt").read_text().splitlines()))
    labels = {name: datasets.find_images(trained / "data", len(CLASSES)).labels[name] for name in answers}
    assert best == pytest.approx(100 * sum(int(answers[name]) == label for name, label in labels.items()) / len(labels))
    assert len(labels) == read_metrics(trained)[0]["images"]
    last = trained / "out/checkpoint.pth.tar"
    assert train(trained, "--eval", "--weights", last, "--bs", 9) == 0
    assert f"Accuracy : {read_metrics(trained)[-1]['top1']:.3f}\n" in capsys.readouterr().out


def test_a_finished_run_reports_again_and_continues_with_more_epochs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "--train_epochs", 1) == 0
    before = (folder / "out/checkpoint.pth.tar").read_bytes()
    capsys.readouterr()
    assert train(folder, "--train_epochs", 1) == 0
    screen = capsys.readouterr().out
    assert f"1 of 1 epochs are finished in {folder / 'out'}\n" in screen and "Epoch:" not in screen
    assert re.search(BLOCK, screen)[1] == f"{read_metrics(folder)[0]['top1']:.3f}"
    assert (folder / "out/checkpoint.pth.tar").read_bytes() == before
    assert train(folder, "--train_epochs", 2) == 0
    assert [each["epoch"] for each in read_metrics(folder)] == [1, 2]


def test_a_performance_run_writes_no_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "--stop_step", 5) == 0  # an epoch has 3 steps
    screen = capsys.readouterr().out
    assert re.search(f"{BLOCK}$", screen) and "Test:" not in screen
    assert re.findall(r"Epoch: (\S+)", screen) == ["[0][0/5]", "[0][2/5]", "[0][4/5]"]
    assert sorted(os.listdir(folder / "out")) == ["output"]
    assert (folder / "out/output/0/small_bs8_1p_perf.log").exists()


def test_invalid_folders_are_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, data = folder / "small.yaml", folder / "data"
    config.write_text(CONFIG.replace("NUM_CLASSES: 3", "NUM_CLASSES: 4"))
    error = error_of(folder, capsys)
    assert f"{data}/train" in error and "found 3 with images" in error and "MODEL.NUM_CLASSES" in error
    config.write_text(CONFIG)
    error = error_of(folder, capsys, "--bs", 25)
    assert f"{data}/train" in error and "expected at least 25" in error and "--batch_size" in error
    (data / "val_label.txt").write_text("x/y.JPEG 3\ndark/dark8.JPEG 3\n")
    error = error_of(folder, capsys)
    assert "val_label.txt" in error and "expected 0 to 2" in error
    for name in CLASSES:
        for file in (data / "train" / name).iterdir():
            file.unlink()
    assert f"{data}/train" in error_of(folder, capsys)
    os.rename(data / "train", data / "gone")
    assert "train/<class>/*" in error_of(folder, capsys)
    os.rename(data, folder / "elsewhere")
    assert str(data) in error_of(folder, capsys)
    assert not (folder / "out/checkpoint.pth.tar").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(folder: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "data/train/grey/grey3.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    assert f": {path}: " in error_of(folder, capsys, "--workers", workers)


def test_weights_that_are_not_finite_are_rejected(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = classification.build(load_config(trained / "small.yaml"))
    net.classifier.bias.data.fill_(float("nan"))
    checkpoint.save(net, tmp_path / "nan.pth")
    assert train(trained, "--eval", "--weights", tmp_path / "nan.pth") == 2
    error = capsys.readouterr().err
    assert "nan.pth: " in error and "NaN" in error and "classifier.bias" in error
    net.classifier.bias.data.fill_(0)
    for weight in (net.final_layer[1].weight, net.classifier.weight):
        weight.data.fill_(checkpoint.LARGEST)
    net.final_layer[0].weight.data.fill_(1e6)
    net.classifier.weight.data[0] *= -1
    checkpoint.save(net, tmp_path / "large.pth")
    assert train(trained, "--eval", "--weights", tmp_path / "large.pth") == 1
    assert "the validation loss is " in capsys.readouterr().err


def test_files_and_labels_that_are_not_used_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data/train/list.txt").write_text("")
    assert train(folder, "--stop_step", 1) == 0
    assert "\n1 file without a class is not used: train/list.txt\n" in capsys.readouterr().out
    (folder / "data/val_label.txt").write_text("gone.JPEG 1\ndark/dark8.JPEG 0\n")
    checkpoint.save(classification.build(load_config(folder / "small.yaml")), folder / "new.pth")
    assert train(folder, "--eval", "--weights", folder / "new.pth") == 0
    screen = capsys.readouterr().out
    assert (
        ", 1 image: " in screen
        and "\n2 files without a class are not used: val/dark/dark9.JPEG, val/dark/dark10.JPEG\n" in screen
    )
    assert "\n1 label has no image: val/gone.JPEG; only images that exist are used\n" in screen
