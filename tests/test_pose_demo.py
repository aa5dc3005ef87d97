"""The demo of pose: its committed checkpoint, and `make demo MODEL=demo_pose` whole."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, pose
from hrnet.nets.trunk import count_parameters
from tests.test_makefile import ROOT, Checkout

WEIGHTS = ROOT / "weights/demo_pose.pth"


def test_the_committed_checkpoint_fits_its_config() -> None:
    config = load_config(CONFIGS / "demo_pose.yaml")
    net = pose.build(config)
    checkpoint.load(net, WEIGHTS)
    assert WEIGHTS.stat().st_size < 4_000_000
    assert count_parameters(net) / 1e6 == pytest.approx(config.REFERENCE.PARAMS_M, abs=0.05)
    assert config.REFERENCE.AP >= 50


def with_interpreter(root: Path) -> None:
    """What make setup would make, with the packages that run this test."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (root / ".venv/done").touch()


@pytest.mark.slow
def test_the_chain_reproduces_the_stated_ap(tmp_path: Path) -> None:
    """On people of another seed than those of the training, drawn, inferred with the flip test and judged."""
    checkout = Checkout(tmp_path)
    with_interpreter(checkout.root)
    done = checkout.make("demo", model="demo_pose")
    assert done.returncode == 0, done.stderr
    assert "PASS: demo_pose AP " in done.stdout
    place = checkout.root / "build/demo/demo_pose/eval/demo_people-float32/onnxruntime-bs1-fp32.json"
    record = json.loads(place.read_text())
    assert (record["images"], record["flip"], record["verdict"]) == (200, True, "pass")
    expected = load_config(CONFIGS / "demo_pose.yaml").REFERENCE
    assert record["metrics"]["AP"] == pytest.approx(expected.AP, abs=0.15), "rounded, and of another processor"


def test_there_are_two_demos(tmp_path: Path) -> None:
    done = Checkout(tmp_path).make("-n", "demo", model="hrnet_w18")
    assert done.returncode == 2
    assert "demo of MODEL=hrnet_w18: there are demo_digits and demo_pose.  Stop." in done.stderr
