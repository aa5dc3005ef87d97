"""The committed checkpoints of both demos, and `make demo MODEL=demo_pose`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, classification, pose
from hrnet.nets.trunk import count_parameters
from tests.support import ROOT
from tests.support.checkout import Checkout

SHA256 = {  # made by the trainers of release 0.1.0
    "demo_digits": "ea39186bff18d26c7120f68b59707f53ebb3bc283f9f988f8c215dc822db1a7b",
    "demo_pose": "a540f7318c10efb768826577e6f2259c01c387162b823c703c82e1ae98cfcd23",
}


@pytest.mark.parametrize("model", SHA256)
def test_the_committed_checkpoint_fits_its_config(model: str) -> None:
    config, weights = load_config(CONFIGS / f"{model}.yaml"), ROOT / f"weights/{model}.pth"
    net = (pose if model == "demo_pose" else classification).build(config)
    assert checkpoint.load(net, weights) == SHA256[model]
    assert count_parameters(net) / 1e6 == pytest.approx(config.REFERENCE.PARAMS_M, abs=0.05)


def with_interpreter(root: Path) -> None:
    """The result of make setup, with the interpreter that runs this test."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (root / ".venv/done").touch()


@pytest.mark.slow
def test_the_pipeline_reproduces_the_reference_ap(tmp_path: Path) -> None:
    """On people drawn with a different seed than the training images, with the flip test."""
    checkout = Checkout(tmp_path)
    with_interpreter(checkout.root)
    done = checkout.make("demo", model="demo_pose")
    assert done.returncode == 0, done.stderr
    assert "PASS: demo_pose AP " in done.stdout
    metrics = checkout.root / "build/demo/demo_pose/eval/demo_people-float32/onnxruntime-bs1-fp32.json"
    record = json.loads(metrics.read_text())
    assert (record["images"], record["flip"], record["verdict"]) == (200, True, "pass")
    expected = load_config(CONFIGS / "demo_pose.yaml").REFERENCE
    assert record["metrics"]["AP"] == pytest.approx(expected.AP, abs=0.15), (
        "the reference is rounded, and another processor rounds differently"
    )


def test_there_are_two_demos(tmp_path: Path) -> None:
    done = Checkout(tmp_path).make("-n", "demo", model="hrnet_w18")
    assert done.returncode == 2
    assert "hrnet_w18" in done.stderr and "demo_digits" in done.stderr and "demo_pose" in done.stderr
