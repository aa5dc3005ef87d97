"""`make eval` with the Python part of real ais_bench versions, on the fakes of atc and aclruntime: the verdict, Top-1
and AP are those of the emulators, on one device and on two.

These tests need AIS_BENCH_GIT (tests/support/official_ais_bench.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import fakes
from tests.support.checkout import Checkout
from tests.support.official_ais_bench import STATES, install, needs_clone

pytestmark = [needs_clone, pytest.mark.slow]
DIGITS = ["DATASET=data/digits", "LIMIT=40", "REFERENCE=torch", "BATCH=16"]
PEOPLE = ["DATASET=data/people", "REFERENCE=torch", "GATE=100"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which both demos ran on the emulators: 40 digits, 6 drawn scenes."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    people = ["--images", "6", "--scenes", "plain", "--size", "128", "--seed", "1"]
    for command in (["digits", "--output", "data/digits"], ["people", "--output", "data/people", *people]):
        subprocess.run([sys.executable, "-m", f"data.{command[0]}", *command[1:]], cwd=checkout.root, check=True)
    for model, given in (("demo_digits", DIGITS), ("demo_pose", PEOPLE)):
        done = checkout.make("eval", *given, "BACKEND=onnxruntime", model=model)
        assert done.returncode == 0, done.stderr
    return checkout


def metrics(built: Checkout, build: str, model: str, tag: str) -> dict[str, Any]:
    (path,) = (built.root / build / model / "eval").glob(f"*/{tag}.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def evaluate(built: Checkout, commit: str, folder: Path, device: str, model: str, given: list[str]) -> dict[str, Any]:
    fakes.atc(folder)
    python = install(commit, folder)
    build = f"{commit}-{device.replace(',', '')}"
    given = [*given, f"BUILD={build}", f"ONNX=build/{model}/model.onnx", f"WEIGHTS=weights/{model}.pth"]
    given += ["BACKEND=ascend", "SOC=Ascend310P3", f"DEVICE={device}", f"AIS_PYTHON={python}"]
    done = built.make("eval", *given, model=model, PATH=f"{folder}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    return metrics(built, build, model, "ascend-*")


@pytest.mark.parametrize("device", ["0", "0,1"])
@pytest.mark.parametrize("commit", STATES)
def test_the_digits_get_the_emulators_verdict(built: Checkout, commit: str, device: str, tmp_path: Path) -> None:
    expected = metrics(built, "build", "demo_digits", "onnxruntime-*")
    found = evaluate(built, commit, tmp_path, device, "demo_digits", DIGITS)
    assert found["verdict"] == expected["verdict"] == "pass"
    assert (found["metrics"], found["counts"]) == (expected["metrics"], expected["counts"])
    assert (found["tool"], found["images"]) == ("ais_bench", 40)


@pytest.mark.parametrize("device", ["0", "0,1"])
@pytest.mark.parametrize("commit", ["9cbe9bc9", "4be9fed3", "7d48a93e"])
def test_the_people_get_the_emulators_verdict(built: Checkout, commit: str, device: str, tmp_path: Path) -> None:
    expected = metrics(built, "build", "demo_pose", "onnxruntime-*")
    found = evaluate(built, commit, tmp_path, device, "demo_pose", PEOPLE)
    assert found["verdict"] == expected["verdict"] == "pass"
    assert found["metrics"] == pytest.approx(expected["metrics"]) and found["counts"] == expected["counts"]
    assert (found["tool"], found["images"], found["flip"]) == ("ais_bench", 6, True)
