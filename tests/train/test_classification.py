"""train/classification.py in this process: what a run leaves and says, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
from pathlib import Path

import pytest
import torch

from hrnet import datasets
from hrnet.config import load_config
from hrnet.io.files import locked
from hrnet.nets import checkpoint, classification
from tests.train.pictures import CLASSES, CONFIG, curve, data_set, draw, train, write_config
from train import epochs, samples

STEP = (
    r"Epoch: \[\d+\]\[\d+/\d+\]\t\tTime \d+\.\d{3}s\t\tFPS \d+\.\d\t\tData \d+\.\d{3}s\t\tLoss \d+\.\d{5}\t\t"
    r"Accuracy@1 \d+\.\d{3}\t\tAccuracy@5 \d+\.\d{3}\t\t"
)
TEST = (
    r"Test: Time \d+\.\d{3}\tLoss \d+\.\d{4}\tError@1 \d+\.\d{3}\tError@5 0\.000\t"
    r"Accuracy@1 (\d+\.\d{3})\tAccuracy@5 100\.000\t"
)
BLOCK = (
    r"------------------ Final result ------------------\n"
    r"Final Performance images/sec : \d+\.\d\nFinal Train Accuracy : (\d+\.\d{3})\nE2E Training Duration sec : \d+\n$"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    data_set(tmp_path / "data")
    write_config(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    data_set(folder / "data")
    write_config(folder)
    assert train(folder) == 0
    return folder


def refused(place: Path, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    capsys.readouterr()
    assert train(place, *more) == 2
    told = capsys.readouterr().err
    assert told.startswith("train.classification: error: ") and told.count("\n") == 1
    return told[len("train.classification: error: ") : -1]


def test_a_run_learns_and_leaves_what_it_says(trained: Path) -> None:
    out = trained / "out"
    figures = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in figures] == [1, 2, 3, 4]
    assert [each["lr"] for each in figures] == pytest.approx([0.05, 0.05, 0.05, 0.005])
    assert figures[-1]["train_loss"] < figures[0]["train_loss"]
    assert figures[-1]["train_top1"] > 80 and {each["images"] for each in figures} == {9}
    log = (out / "output/0/train_0.log").read_text()
    lines = log.splitlines()
    assert lines[0] == "small, 0.07 M parameters: 1 times 8 images at once on cpu, float32; 24 images"
    assert [re.findall(r"\[.*\]", line)[0] for line in lines if re.fullmatch(STEP, line)] == [
        f"[{epoch}][{step}/3]" for epoch in range(4) for step in (0, 2)
    ]
    assert (
        len(
            re.findall(
                r"\n\nData Average :\t\tTime_Avg \S+s\t\tFps_Avg \S+\t\tLoss \S+\t\tAccuracy@1_Avg \S+\t\t\n", log
            )
        )
        == 4
    )
    assert re.findall(TEST, log) == [f"{each['top1']:.3f}" for each in figures]
    assert re.search(BLOCK, log)[1] == f"{figures[-1]['top1']:.3f}"
    assert re.search(r"\nepoch 4 of 4: loss \S+, Top-1 \S+% of 9 images, best \S+%, \S+ images/s, 0 min left\n", log)


def test_the_result_as_the_model_zoo_writes_it(trained: Path) -> None:
    text = (trained / "out/output/0/small_bs8_1p_acc.log").read_text()
    facts = dict(line.split(" = ") for line in text.splitlines())
    assert list(facts) == [
        *("Network", "RankSize", "BatchSize", "DeviceType", "CaseName", "ActualFPS", "TrainingTime"),
        *("TrainAccuracy", "ActualLoss", "E2ETrainingTime"),
    ]
    assert (facts["Network"], facts["RankSize"], facts["BatchSize"]) == ("small", "1", "8")
    assert (facts["DeviceType"], facts["CaseName"]) == (platform.machine(), "small_bs8_1p_acc")
    assert float(facts["TrainingTime"]) == pytest.approx(8000 / float(facts["ActualFPS"]), rel=0.01)
    assert facts["TrainAccuracy"] == f"{curve(trained)[-1]['top1']:.3f}"


def test_both_checkpoints_are_what_pth2onnx_reads(trained: Path) -> None:
    config = load_config(trained / "small.yaml")
    states = [checkpoint.read_state(trained / "out" / name) for name in ("checkpoint.pth.tar", "model_best.pth.tar")]
    expected = classification.build(config).state_dict()
    for state in states:
        assert [(key, value.dtype) for key, value in state.items()] == [
            (key, value.dtype) for key, value in expected.items()
        ]
    content = torch.load(trained / "out/checkpoint.pth.tar", weights_only=True)
    assert content["epoch"] == 4 and content["perf"] == max(each["top1"] for each in curve(trained))
    assert not list((trained / "out").glob(".*"))


def test_evaluation_finds_what_training_told(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(trained, "--eval") == 0
    best = max(each["top1"] for each in curve(trained))
    told = capsys.readouterr().out
    assert f"\nFinal Train Accuracy : {best:.3f}\n" in told and "Final Performance" not in told
    facts = (trained / "out/output/0/small_bs4_1p_eval.log").read_text()
    assert f"\nTrainAccuracy = {best:.3f}\nActualLoss = " in facts and "FPS" not in facts
    answers = dict(map(str.split, (trained / "out/output/0/eval_0.txt").read_text().splitlines()))
    labels = {name: datasets.find_images(trained / "data").labels[name] for name in answers}
    assert best == pytest.approx(100 * sum(int(answers[name]) == label for name, label in labels.items()) / len(labels))
    assert len(labels) == curve(trained)[0]["images"]
    last = trained / "out/checkpoint.pth.tar"
    assert train(trained, "--eval", "--weights", last, "--bs", 9) == 0
    assert f"Accuracy : {curve(trained)[-1]['top1']:.3f}\n" in capsys.readouterr().out


def test_a_finished_run_is_told_again_and_goes_on_when_asked_for_more(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(place, "--train_epochs", 1) == 0
    before = (place / "out/checkpoint.pth.tar").read_bytes()
    capsys.readouterr()
    assert train(place, "--train_epochs", 1) == 0
    told = capsys.readouterr().out
    assert f"1 of 1 epochs are finished in {place / 'out'}\n" in told and "Epoch:" not in told
    assert re.search(BLOCK, told)[1] == f"{curve(place)[0]['top1']:.3f}"
    assert (place / "out/checkpoint.pth.tar").read_bytes() == before
    assert train(place, "--train_epochs", 2) == 0
    assert [each["epoch"] for each in curve(place)] == [1, 2]


@pytest.mark.parametrize("stopped", ["learn", "validate"])
def test_a_run_stopped_anywhere_goes_on_with_the_same_losses(
    place: Path, trained: Path, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third epoch's training or validation is cut off; metrics.jsonl has a line too many, as of a kill."""
    work, calls = getattr(epochs, stopped), []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(epochs, stopped, interrupted)
    assert train(place) == 130
    monkeypatch.undo()
    assert len(curve(place)) == 2
    with open(place / "out/metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 3}\n')
    assert train(place) == 0
    assert curve(place) == curve(trained)
    mine, theirs = (checkpoint.read_state(each / "out/checkpoint.pth.tar") for each in (place, trained))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_a_performance_run_takes_steps_and_leaves_no_checkpoint(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(place, "--stop_step", 5) == 0  # of which an epoch has 3
    told = capsys.readouterr().out
    assert re.search(BLOCK, told) and "Test:" not in told
    assert re.findall(r"Epoch: (\S+)", told) == ["[0][0/5]", "[0][2/5]", "[0][4/5]"]
    assert sorted(os.listdir(place / "out")) == ["output"]
    assert (place / "out/output/0/small_bs8_1p_perf.log").exists()


def test_float16_with_a_loss_scale_learns_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NPU and CUDA compute in, on the CPU."""
    monkeypatch.setattr("train.recipe.dtype_of", lambda precision, device: torch.float16)
    assert train(place, "--train_epochs", 2) == 0
    figures = curve(place)
    assert figures[1]["train_loss"] < figures[0]["train_loss"]
    content = torch.load(place / "out/checkpoint.pth.tar", weights_only=True)
    assert content["scaler"]["scale"] > 1 and content["settings"]["precision"] == "float16"
    assert content["state_dict"]["conv1.weight"].dtype == torch.float32


def test_wrong_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = place / "small.yaml"
    config.write_text(CONFIG.replace("NUM_CLASSES: 3", "NUM_CLASSES: 4"))
    told = refused(place, capsys)
    hint = "give another --cfg, or set MODEL.NUM_CLASSES to 3 in it"
    assert told == f"{place}/data/train: class folders (expected 4, MODEL.NUM_CLASSES, found 3); {hint}"
    config.write_text(CONFIG)
    assert refused(place, capsys, "--bs", 25).startswith(f"{place}/data/train: too few images (expected at least 25, ")
    (place / "data/val_label.txt").write_text("x/y.JPEG 3\ndark/dark8.JPEG 3\n")
    assert "val_label.txt: label outside the classes (expected labels below 3" in refused(place, capsys)
    for name in CLASSES:
        for file in (place / "data/train" / name).iterdir():
            file.unlink()
    assert refused(place, capsys) == f"{place}/data/train: class folders hold no file"
    os.rename(place / "data/train", place / "data/gone")
    assert refused(place, capsys) == f"{place}/data: holds no folder to train on (expected train/<class>/* in it)"
    os.rename(place / "data", place / "elsewhere")
    assert refused(place, capsys).startswith(f"{place}/data: no such dataset folder")
    assert not (place / "out/checkpoint.pth.tar").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(place: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "data/train/grey/grey3.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    told = refused(place, capsys, "--workers", workers)
    assert told.startswith(f"{path}: is no readable image: ") and told.endswith("; mend or remove the file")


def test_a_worker_that_is_killed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samples.Samples, "__getitem__", lambda self, key: os.kill(os.getpid(), signal.SIGKILL))
    told = refused(place, capsys, "--workers", 1)
    assert told.startswith(
        "a process that reads images was killed, most likely for want of memory (of /dev/shm, too); "
    )


def test_a_checkpoint_of_another_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(place, "--train_epochs", 1) == 0
    path, config = place / "out/checkpoint.pth.tar", place / "small.yaml"
    hint = f"give another --output, or move this one: mv {place / 'out'} {place / 'out'}.old"
    assert refused(place, capsys, "--lr", 0.1) == (
        f"{path}: is of a run with another learning rate (expected 0.1, found 0.05); {hint}"
    )
    assert "is of a run with another batch (expected 6, found 8)" in refused(place, capsys, "--bs", 6)
    config.write_text(CONFIG.replace("NUM_CHANNELS: [4, 8, 16, 32]", "NUM_CHANNELS: [8, 8, 16, 32]"))
    assert "is of a run with another MODEL or INPUT in its config" in refused(place, capsys)
    draw(place / "data/train/dark/new.JPEG", 0, 99)
    config.write_text(CONFIG)
    assert "is of a run with another list of images" in refused(place, capsys)
    checkpoint.save(classification.build(load_config(config)), path)
    assert refused(place, capsys) == f"{path}: is no checkpoint of this trainer; {hint}"
    path.write_bytes(path.read_bytes()[:1000])
    assert "checkpoint.pth.tar: is no checkpoint, or a damaged one" in refused(place, capsys)


def test_a_second_run_in_one_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(f"{place / 'out'}_lock"):
        told = refused(place, capsys)
    assert told == f"{place / 'out'}_lock: another run, or the tool of a killed one, is still at work"


def test_a_loss_that_is_no_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(place, "--lr", 1e30) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"train\.classification: failed: the loss is (nan|inf) in epoch 0, step \d; begin anew with a smaller --lr\n",
        told,
    )


def test_weights_that_are_no_numbers(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = classification.build(load_config(trained / "small.yaml"))
    net.classifier.bias.data.fill_(float("nan"))
    checkpoint.save(net, tmp_path / "nan.pth")
    assert train(trained, "--eval", "--weights", tmp_path / "nan.pth") == 1
    told = "failed: the loss of the validation is nan: the weights have grown without bounds\n"
    assert capsys.readouterr().err.endswith(told)


def test_what_is_passed_over_is_told_of(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data/train/list.txt").write_text("")
    assert train(place, "--stop_step", 1) == 0
    assert "\n1 files without a class are left out: train/list.txt\n" in capsys.readouterr().out
    (place / "data/val_label.txt").write_text("gone.JPEG 1\ndark/dark8.JPEG 0\n")
    checkpoint.save(classification.build(load_config(place / "small.yaml")), place / "new.pth")
    assert train(place, "--eval", "--weights", place / "new.pth") == 0
    told = capsys.readouterr().out
    assert "; 1 images\n2 files without a class are left out: val/dark/dark9.JPEG, val/dark/dark10.JPEG\n" in told
    assert "\n1 labels have no image (a subset): val/gone.JPEG\n" in told


@pytest.mark.parametrize("lr", ["0", "-1", "nan", "fast"])
def test_a_rate_that_is_none(place: Path, lr: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(place, f"--lr={lr}")
    assert stopped.value.code == 2
    assert f"expected a number above 0, found {lr!r}" in capsys.readouterr().err
