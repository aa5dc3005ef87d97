"""make eval PRECISION=int8 on the demo: accuracy, what is done again, and images that calibrate and are evaluated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Checkout


@pytest.fixture(scope="module")
def checkout(evaluated_demo: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the demo's ONNX file, which the pose test does not use."""
    made = Checkout(tmp_path_factory.mktemp("int8"))
    shutil.copy(evaluated_demo.root / "build/demo_digits/model.onnx", made.root)
    return made


def evaluate(checkout: Checkout, *arguments: str) -> str:
    done = checkout.make("eval", *arguments)
    assert done.returncode == 0 and "PASS: demo_digits top1 " in done.stdout, done.stdout + done.stderr
    return done.stdout


def record(checkout: Checkout, name: str) -> dict[str, object]:
    path = checkout.root / "build/demo_digits/eval" / name
    content: dict[str, object] = json.loads(path.read_text())
    return content


def test_int8_of_the_demo(checkout: Checkout, digits: Path) -> None:
    """`digits` has train/, whose images calibrate."""
    given = (
        f"DATASET={digits}",
        "ONNX=model.onnx",
        "LIMIT=100",
        "PRECISION=int8",
        "CALIB=24",
        "BACKEND=onnxruntime",
        "REFERENCE=config",
    )
    out = evaluate(checkout, *given)
    assert "amct.emulator calibration" in out and "--input_shape image:12,3,64,64" in out
    made = record(checkout, "digits-float32-first100/onnxruntime-bs16-int8.json")
    assert made["metrics"]["top1"] >= 98 and "calibration_in_eval" not in made  # type: ignore[index]
    assert " -m " not in evaluate(checkout), "nothing is computed again"


@pytest.mark.slow
def test_openvino_and_uint8_use_the_same_int8_model(checkout: Checkout, digits: Path) -> None:
    evaluate(
        checkout, f"DATASET={digits}", "ONNX=model.onnx", "LIMIT=100", "PRECISION=int8", "CALIB=24", "REFERENCE=config"
    )
    out = evaluate(checkout, "BACKEND=openvino", "INPUT=uint8")
    assert "-m amct." not in out and "-m atc.convert" in out, "the int8 model is the same"
    assert record(checkout, "digits-uint8-first100/openvino-bs16-int8.json")["metrics"]["top1"] >= 98  # type: ignore[index]


@pytest.mark.slow
def test_without_train_the_calibration_images_are_evaluated_and_counted(checkout: Checkout, digits: Path) -> None:
    shutil.copytree(digits / "val", checkout.root / "data/only/val")
    shutil.copy(digits / "val_label.txt", checkout.root / "data/only")
    given = (
        "DATASET=data/only",
        "ONNX=model.onnx",
        "LIMIT=0",
        "PRECISION=int8",
        "CALIB=24",
        "BACKEND=onnxruntime",
        "INPUT=float32",
    )
    out = evaluate(checkout, *given, "REFERENCE=config")
    assert "warning: 24 of 500 images" in out and "24 of them calibrated the model" in out
    assert record(checkout, "only-float32/onnxruntime-bs16-int8.json")["calibration_in_eval"] == 24
    assert "amct.quantize" in checkout.make("-n", "om", "CALIB=25").stdout
    assert Path(checkout.root / "build/demo_digits/int8/emulator/model_deploy_model.onnx").is_file()


@pytest.mark.slow
def test_int8_of_the_pose_demo(checkout: Checkout) -> None:
    options = ["--images", "24", "--scenes", "plain", "--size", "128", "--seed", "1"]
    people = [sys.executable, "-m", "data.people", "--output", "data/people", *options]
    subprocess.run(people, cwd=checkout.root, check=True, capture_output=True)
    given = ("DATASET=data/people", "BACKEND=onnxruntime", "REFERENCE=torch", "GATE=5")
    done = checkout.make("eval", *given, "PRECISION=int8", "CALIB=12", model="demo_pose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--input_shape input:1,3,-1,-1" in done.stdout and "--dynamic_dims" in done.stdout
    assert "PASS: demo_pose AP " in done.stdout and "12 of them calibrated the model" in done.stdout
    rejected = checkout.make("-n", "eval", "BACKEND=ascend", "PRECISION=int8", model="demo_pose")
    assert rejected.returncode == 2 and "PRECISION=int8: demo_pose has gears" in rejected.stderr
