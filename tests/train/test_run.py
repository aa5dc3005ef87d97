"""train/run.py, loop.py, recipe.py and state.py: the code that both tasks share, with each task."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from hrnet.config import load_config
from hrnet.io.files import locked
from tests.support.training_sets import set_up, write_pose_config
from tests.train.calls import MAINS, WEIGHTS, error_line, make_task, read_metrics, train
from train import distributed, loop, recipe, state
from train.batches import Samples
from train.distributed import DistributedContext

TASKS = ("classification", "pose")


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and a finished run of three epochs."""
    folder = set_up(task, tmp_path_factory.mktemp("trained"))
    config = folder / "small.yaml"
    config.write_text(config.read_text().replace("END_EPOCH: 4", "END_EPOCH: 3"))
    assert train(folder, task=task) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """The data set and the config of `trained`, without its run."""
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.copy(trained / "small.yaml", tmp_path)
    return tmp_path


def error_of(task: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: object, code: int = 2) -> str:
    return error_line(capsys, lambda: train(folder, *more, task=task), code)


@pytest.mark.parametrize("in_make", [False, True])
def test_the_last_lines_name_the_checkpoint_and_the_next_command(
    task: str,
    in_make: bool,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a run that is finished. make remembers CFG and DATASET."""
    shutil.copytree(trained, folder := tmp_path / "again")
    for name in ("MAKELEVEL", "MODEL", "BUILD"):
        monkeypatch.delenv(name, raising=False)
    if in_make:
        monkeypatch.setenv("MAKELEVEL", "1")
        monkeypatch.setenv("MODEL", "small")
        monkeypatch.setenv("BUILD", "o")
    assert train(folder, task=task) == 0
    wrote, step = capsys.readouterr().out.splitlines()[-2:]
    weights = folder / "out" / WEIGHTS[task]
    assert wrote == f"wrote {weights}" and weights.is_file()
    given = f"MODEL=small WEIGHTS={weights}"
    expected = f"BUILD=o {given}" if in_make else f"CFG={folder}/small.yaml {given} DATASET={folder}/data"
    assert step.startswith(f"next: make eval {expected} REFERENCE=torch  "), step


@pytest.mark.parametrize("stopped_in", ["train_epoch", "add"])
def test_an_interrupted_run_resumes_with_the_same_losses(
    task: str, folder: Path, trained: Path, stopped_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third epoch's training, or its end, is cut off; metrics.jsonl has a line too many, as after a kill."""
    owner = loop if stopped_in == "train_epoch" else state.RunState
    work, calls = getattr(owner, stopped_in), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(owner, stopped_in, interrupted)
    assert train(folder, task=task) == 130
    monkeypatch.undo()
    assert len(read_metrics(folder)) == 2
    with open(folder / "out/metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 3}\n')
    assert train(folder, task=task) == 0
    assert read_metrics(folder) == read_metrics(trained)
    mine, other = (
        torch.load(each / "out/checkpoint.pth.tar", weights_only=True)["state_dict"] for each in (folder, trained)
    )
    assert all(torch.equal(mine[key], other[key]) for key in other)
    assert (folder / "out" / WEIGHTS[task]).read_bytes() == (trained / "out" / WEIGHTS[task]).read_bytes()


def test_float16_with_a_loss_scale_learns(task: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with the precision of NPU and CUDA."""
    monkeypatch.setattr(recipe, "dtype_of", lambda precision, device: torch.float16)
    assert train(folder, task=task) == 0
    figures = read_metrics(folder)
    assert figures[-1]["train_loss"] < figures[0]["train_loss"]
    content = torch.load(folder / "out/checkpoint.pth.tar", weights_only=True)
    assert content["scaler"]["scale"] > 1 and content["settings"]["precision"] == "float16"
    assert content["state_dict"]["conv1.weight"].dtype == torch.float32


@pytest.mark.parametrize("name", ["--data_path", ""])
def test_the_model_zoos_argument_names_are_accepted(task: str, folder: Path, name: str) -> None:
    main = MAINS[task]
    given = [*([name] if name else []), folder / "data", "--cfg", folder / "small.yaml", "--output", folder / "out"]
    assert main([*map(str, given), "--stop_step=1", "--bs=2", "--device_id=3", "--lr=0.5"]) == 0
    assert (folder / "out/output/3/small_bs2_1p_perf.log").is_file()


@pytest.mark.parametrize("lr", ["0", "-1", "nan", "fast"])
def test_an_invalid_learning_rate_is_rejected(
    folder: Path, task: str, lr: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(folder, f"--lr={lr}", task=task)
    assert stopped.value.code == 2
    assert f"found {lr!r}" in capsys.readouterr().err


def test_a_checkpoint_of_a_different_run_is_rejected(
    task: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "--train_epochs", 1, task=task) == 0
    path = folder / "out/checkpoint.pth.tar"
    error = error_of(task, folder, capsys, "--train_epochs", 1, "--lr", 0.1)
    assert f"{path}: " in error and "learning rate (expected 0.1" in error and f"mv {folder / 'out'} " in error
    assert "--output (with make: BUILD=" in error
    for more in (
        ("--bs", 2),
        ("--precision", "mixed"),
        ("--threads", 2),
        ("--weights", folder / "out" / WEIGHTS[task]),
    ):
        assert f"{path}: " in error_of(task, folder, capsys, "--train_epochs", 1, *more), more
    cfg = folder / "small.yaml"
    before = cfg.read_text()
    for old, new in [("LR_STEP: [", "LR_STEP: [1, "), ("FEATURES: 24", "FEATURES: 23"), ("SIGMA: 2", "SIGMA: 3")]:
        if old in before:
            cfg.write_text(before.replace(old, new))
            assert f"{path}: " in error_of(task, folder, capsys, "--train_epochs", 1), new
    if task == "pose":
        cfg.write_text(
            before.replace("INPUT_SIZE: 64", "INPUT_SIZE: 128").replace("GEARS: [", "GEARS: [[128, 128]] # [")
        )
        assert "DATASET or LOSS in its config" in error_of(task, folder, capsys, "--train_epochs", 1)
    cfg.write_text(before)
    torch.save({"state_dict": {}}, path)
    assert f"{path}: not a checkpoint of this trainer" in error_of(task, folder, capsys, "--train_epochs", 1)
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path}: " in error_of(task, folder, capsys, "--train_epochs", 1)


def test_different_targets_are_a_different_run(trained: Path, task: str) -> None:
    made = make_task(task, trained / "small.yaml")
    samples = made.samples(trained / "data")
    before = samples.sha256()
    assert made.samples(trained / "data").sha256() == before
    targets = samples.labels if task == "classification" else samples.annotations
    targets[0], targets[-1] = targets[-1], targets[0]
    assert samples.sha256() != before


def test_two_runs_in_one_directory_exclude_each_other(
    task: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(f"{folder / 'out'}_lock"):
        assert f"{folder / 'out'}_lock: " in error_of(task, folder, capsys)
    assert not (folder / "out/checkpoint.pth.tar").exists()


def test_a_killed_worker_is_reported_in_one_line(
    task: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Samples, "__getitem__", lambda self, key: os.kill(os.getpid(), signal.SIGKILL))
    error = error_of(task, folder, capsys, "--workers", 1)
    assert "a worker process was killed" in error and "--workers" in error


def test_a_loss_that_is_not_finite_ends_the_run(task: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(task, folder, capsys, "--lr", 1e30, code=1)
    assert (
        re.search(r": failed: the loss is (nan|inf) in epoch \d, step \d", error)
        and "--lr" in error
        and "TRAIN.LR" in error
    )


def test_a_run_starts_from_weights(task: str, folder: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = trained / "out" / WEIGHTS[task]
    assert train(folder, "--train_epochs", 1, "--weights", weights, task=task) == 0
    assert read_metrics(folder)[0]["train_loss"] < read_metrics(trained)[0]["train_loss"]
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "conv1.weight"}, folder / "cut.pth")
    assert f"{folder / 'cut.pth'}: " in error_of(task, folder, capsys, "--weights", folder / "cut.pth")


def pretrained(folder: Path, file: str, more: str = "") -> None:
    """MODEL.PRETRAINED in the config, relative to the working directory."""
    config = folder / "small.yaml"
    lines = config.read_text().replace("MODEL:\n", f"MODEL:\n  PRETRAINED: {file}\n", 1)
    config.write_text(lines.replace("  EXTRA:", f"  EXTRA:{more}", 1))


def test_a_run_starts_from_the_pretrained_weights_of_its_config(
    task: str, folder: Path, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    weights = torch.load(trained / "out" / WEIGHTS[task], weights_only=True)
    head = "classifier" if task == "classification" else "final_layers"
    trunk = {f"module.{key}": value for key, value in weights.items() if not key.startswith(head)}
    torch.save({"state_dict": trunk}, "trunk.pth")
    pretrained(folder, "trunk.pth")
    assert train(folder, "--train_epochs", 1, task=task) == 0
    screen = capsys.readouterr().out
    assert f"not loaded: {head}" in screen and "prefix module. removed" in screen
    assert read_metrics(folder)[0]["train_loss"] < read_metrics(trained)[0]["train_loss"]
    assert f"{len(trunk)} of {len(weights)} weights" in screen
    torch.save({"state_dict": {**trunk, "module.bn1.bias": weights["bn1.bias"] * 2}}, "trunk.pth")
    assert "start weights" in error_of(task, folder, capsys, "--train_epochs", 1)
    assert train(folder, "--stop_step", 1, "--weights", trained / "out" / WEIGHTS[task], task=task) == 0
    assert "MODEL.PRETRAINED" in capsys.readouterr().out


def test_missing_pretrained_weights_are_rejected(
    task: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    pretrained(folder, "models/none.pth")
    error = error_of(task, folder, capsys)
    assert "MODEL.PRETRAINED" in error and "models/none.pth" in error and "--weights" in error


def test_only_the_configured_pretrained_layers_are_loaded(
    task: str, folder: Path, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    pretrained(folder, str(trained / "out" / WEIGHTS[task]), "\n    PRETRAINED_LAYERS: [conv1, bn1]")
    assert train(folder, "--stop_step", 1, task=task) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "weights are loaded" in line)
    assert ("not loaded: conv2, bn2" in line) == (task == "pose")


def test_learning_rates_follow_the_schedule(tmp_path: Path) -> None:
    settings = load_config(write_pose_config(tmp_path)).TRAIN.clone()
    settings.defrost()
    settings.LR, settings.END_EPOCH = 0.5, 10
    rates = [recipe.learning_rate(settings, epochs) for epochs in (0, 0.5, 1, 5.5, 10)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    settings.LR_STEP = [2, 4]
    rates = [recipe.learning_rate(settings, epochs) for epochs in (0, 1.9, 2, 3.9, 4, 9)]
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_a_data_set_given_twice_is_rejected(folder: Path, task: str) -> None:
    with pytest.raises(SystemExit):
        train(folder, folder / "data", task=task)


def test_channels_last_is_used_only_on_cpu_and_cuda(task: str, folder: Path) -> None:
    """The meta device in place of an NPU, whose torch rejects channels_last."""
    small = make_task(task, folder / "small.yaml")
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    for name in ("cpu", "meta"):
        context = DistributedContext(0, 1, torch.device(name))
        trainer = recipe.make_trainer(small, small.build(), "fp32", context)
        last = name == "cpu"
        for images in (pixels, torch.zeros(2, 3, 8, 8)):
            given = trainer.inputs(images)
            assert given.shape == (2, 3, 8, 8)
            assert given.is_contiguous() != last
            assert given.is_contiguous(memory_format=torch.channels_last) == last
        weights = [weight for weight in trainer.net.parameters() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
        assert weights and all(weight.is_contiguous() != last for weight in weights)
    assert [recipe.memory_format(torch.device(name)) for name in ("cuda", "xpu")] == [
        torch.channels_last,
        torch.contiguous_format,
    ]


def test_a_torch_that_is_too_old_is_rejected(
    task: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.1.0")
    line = error_of(task, folder, capsys)
    assert "2.4 or later" in line and "2.1.0" in line
    assert not (folder / "out").exists()


def test_the_warning_of_an_unused_npu_is_in_the_log(
    task: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "davinci0").touch()
    monkeypatch.setattr(distributed, "NPUS", f"{folder}/davinci[0-9]*")
    assert train(folder, "--stop_step", "1", task=task) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING: ")]
    assert len(warnings) == 1 and "torch_npu is not installed" in warnings[0]
