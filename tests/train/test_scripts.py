"""The five train_*.sh: their flags, with a fake interpreter. The tests marked slow run each of them on the digits, in a
clean tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from hrnet.io.manifest import Manifest
from tests.support import ROOT
from tests.support.checkout import Checkout
from tests.support.real_images import IMAGENET, needs_imagenet

SCRIPTS = {
    "train_full_1p.sh": [],
    "train_full_8p.sh": ["--nproc=8"],
    "train_performance_1p.sh": ["--stop_step=200"],
    "train_performance_8p.sh": ["--nproc=8", "--stop_step=200"],
    "train_eval_1p.sh": ["--eval"],
}
LEAST = 97  # Top-1 of the validation digits, percent


def call(script: str, *flags: str, cwd: Path, root: Path = ROOT, python: str = sys.executable) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", root / "train" / script, *flags],
        cwd=cwd,
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_data_path_is_reported(script: str, tmp_path: Path) -> None:
    expected = (1, '[Error] para "data_path" must be confing\n', "")
    assert call(script, "--device_id=1", cwd=tmp_path) == expected
    assert call(script, "--data_path=", cwd=tmp_path) == expected
    assert os.access(ROOT / "train" / script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_are_passed_on(script: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH"\nprintf "%s\\n" "$@"\nexit 7\n')
    python.chmod(0o755)
    given = ("--data_path=/data/my set", "--batch_size=256", "--lr=0.1", "--cfg=w32.yaml", "--nproc=2")
    code, screen, _ = call(script, *given, cwd=tmp_path, python=str(python))
    path, *arguments = screen.splitlines()
    assert code == 7 and path.split(":")[0] == str(ROOT)
    assert arguments == ["-m", "train.classification", "--cfg=hrnet_w18", *SCRIPTS[script], *given]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean tree with the digits, on which train_full_1p.sh ran."""
    pytest.importorskip("sklearn")
    root = Checkout(tmp_path_factory.mktemp("tree")).root
    made = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(made, cwd=root, check=True, capture_output=True)
    flags = ("--data_path=data/digits", "--cfg=demo_digits")
    code, screen, errors = call("train_full_1p.sh", *flags, cwd=root, root=root)
    assert (code, errors) == (0, ""), errors
    (root / "screen").write_text(screen)
    return root


def final(screen: str) -> dict[str, float]:
    """The result block at the end of a script's output."""
    block = screen.partition("------------------ Final result ------------------\n")[2].partition("wrote ")[0]
    return {name: float(value) for name, value in (line.split(" : ") for line in block.splitlines())}


def facts(path: Path) -> dict[str, str]:
    return dict(line.split(" = ") for line in path.read_text().splitlines())


@pytest.mark.slow
def test_the_digits_are_learned(digits: Path) -> None:
    result = final((digits / "screen").read_text())
    assert list(result) == ["Final Performance images/sec", "Final Train Accuracy", "E2E Training Duration sec"]
    assert result["Final Train Accuracy"] >= LEAST
    found = facts(digits / "build/demo_digits/train/output/0/demo_digits_bs32_1p_acc.log")
    assert float(found["TrainAccuracy"]) == result["Final Train Accuracy"]
    figures = (digits / "build/demo_digits/train/metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["images"] for line in figures} == {500}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "flags", "case"),
    [
        ("train_full_8p.sh", ["--nproc=2", "--train_epochs=2", "--batch_size=16"], "bs16_2p_acc"),
        ("train_performance_1p.sh", ["--stop_step=12"], "bs32_1p_perf"),
        ("train_performance_8p.sh", ["--nproc=2", "--stop_step=12"], "bs32_2p_perf"),
    ],
)
def test_each_script_runs_on_the_digits(digits: Path, script: str, flags: list[str], case: str) -> None:
    given = ("--data_path=data/digits", "--cfg=demo_digits", f"--output=build/{case}", "--device_id=3")
    code, screen, errors = call(script, *given, *flags, cwd=digits, root=digits)
    assert (code, errors) == (0, "")
    found = facts(digits / f"build/{case}/output/3/demo_digits_{case}.log")
    assert found["CaseName"] == f"demo_digits_{case}"
    assert float(found["ActualFPS"]) == final(screen)["Final Performance images/sec"] > 0


@pytest.mark.slow
def test_the_pipeline_and_train_eval_give_each_image_the_same_class(digits: Path) -> None:
    given = ("--data_path=data/digits", "--cfg=demo_digits")
    code, screen, errors = call("train_eval_1p.sh", *given, cwd=digits, root=digits)
    assert (code, errors) == (0, "")
    weights = "build/demo_digits/train/model_best.pth.tar"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    make = [
        "make",
        "eval",
        "MODEL=demo_digits",
        "DATASET=data/digits",
        f"WEIGHTS={weights}",
        f"PYTHON={sys.executable}",
    ]
    subprocess.run([*make, "BACKEND=onnxruntime", "GATE=50"], cwd=digits, env=clean, check=True, capture_output=True)
    metrics = json.loads((digits / "build/demo_digits/eval/digits-float32/onnxruntime-bs16-fp32.json").read_text())
    assert final(screen)["Final Train Accuracy"] == round(metrics["metrics"]["top1"], 3)
    assert metrics["images"] == 500
    path = digits / "build/demo_digits/train/output/0/demo_digits_bs32_1p_eval.log"
    assert float(facts(path)["TrainAccuracy"]) == round(metrics["metrics"]["top1"], 3)
    build = digits / "build/demo_digits"
    outputs = build / "out/digits-float32/onnxruntime-bs16-fp32"
    chain = {
        image.source: int(np.fromfile(outputs / f"{image.stem}_0.bin", np.float32).argmax())
        for image in Manifest.read(build / "prep/digits-float32/manifest.json").images
    }
    answers = (build / "train/output/0/eval_0.txt").read_text().splitlines()
    assert {name: int(answer) for name, answer in map(str.split, answers)} == chain
    assert len(chain) == 500


@pytest.mark.slow
@needs_imagenet
def test_hrnet_w18_takes_steps_on_images(tmp_path: Path) -> None:
    """200 classes with one image each."""
    for line in (IMAGENET / "val_label.txt").read_text().splitlines():
        name, label = line.rsplit(" ", 1)
        folder = tmp_path / f"data/train/{int(label):04d}"
        folder.mkdir(parents=True)
        shutil.copy(IMAGENET / "val" / name, folder)
    config = yaml.safe_load((ROOT / "configs/hrnet_w18.yaml").read_text())
    config["MODEL"]["NUM_CLASSES"] = 200
    del config["INPUT"]["CLASS_NAMES"], config["REFERENCE"]  # of ImageNet's 1,000 classes
    (tmp_path / "w18.yaml").write_text(yaml.safe_dump(config))
    flags = ("--data_path=data", "--cfg=w18.yaml", "--stop_step=3", "--batch_size=8", "--output=out")
    code, screen, errors = call("train_performance_1p.sh", *flags, cwd=tmp_path)
    assert (code, errors) == (0, "")
    assert screen.startswith("w18, 19.66 M parameters, ") and ", 1 x batch size 8\n" in screen
    loss = float(re.findall(r"\t\tLoss (\S+)\t\t", screen)[0])
    assert 4 < loss < 8, "about ln(200) before anything is learned"
    assert final(screen)["Final Performance images/sec"] > 0
