"""Values that make remembers, through make itself: tests/make/test_remembered.py has the rules."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from make.call import NOT_REMEMBERED
from make.checks import CHECKS
from make.options import Options
from make.remembered import used_names
from tests.support.checkout import Checkout

OTHER = {
    **{"WEIGHTS": "weights/demo_pose.pth", "DATASET": "data", "ONNX": "hrnet/x.onnx", "TS": "hrnet/x.ts"},
    **{"BATCH": "3", "LOOP": "3", "CALIB": "3", "SOC": "Ascend910B1", "LIMIT": "3", "SHARDS": "3"},
    **{"AIS_PYTHON": sys.executable, "REFERENCE": "onnx", "BUNDLE": "stage", "PRECISION": "fp16", "INPUT": "uint8"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    found = Checkout(tmp_path_factory.mktemp("sources"))
    for name in ("hrnet/x.onnx", "hrnet/x.ts"):
        (found.root / name).touch()
    (found.root / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return found


@pytest.fixture
def checkout(sources: Checkout) -> Iterator[Checkout]:
    """A checkout without build/. All tests share it: they may write only build/ and files that no other test reads."""
    yield sources
    shutil.rmtree(sources.root / "build", ignore_errors=True)


def remember(checkout: Checkout, **values: str) -> Path:
    folder = checkout.root / "build/demo_digits/settings"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / f"{name}.mk").write_text(f"{name} ?= {value}\n")
    return folder


GOALS = [
    *("weights", "train", "onnx", "torchscript", "om", "preprocess", "quantize", "infer", "predict", "bench", "eval"),
    *("gate", "part", "merge", "reference", "show", "serve", "qps", "bundle", "compare", "precision", "report"),
]
MORE = {"predict": ["IMAGES=a.jpg"], "part": ["SHARD=1/2"], "merge": ["SHARDS=2"]}


@pytest.mark.parametrize("goal", GOALS)
def test_a_value_that_is_not_listed_as_used_changes_no_command(checkout: Checkout, goal: str) -> None:
    given = MORE.get(goal, [])
    files = {name: f"build/demo_digits/model.{name.lower()}" for name in ("ONNX", "TS")}
    basic = {"MODEL": "demo_digits", "BUILD": "build", "PRECISION": "default", "BACKEND": "onnxruntime"}
    values = {**dict.fromkeys(CHECKS, ""), **files, **basic}
    used = used_names(Options(values, set(), {goal}))
    shown = checkout.make("-n", goal, *given)
    assert shown.returncode == 0, shown.stderr
    remember(checkout, **{name: value for name, value in OTHER.items() if name not in used})
    again = checkout.make("-n", goal, *given)
    assert again.stdout == shown.stdout and set(OTHER) <= set(CHECKS) - NOT_REMEMBERED, again.stderr


def test_values_that_an_older_version_remembered_are_removed(checkout: Checkout) -> None:
    folder = remember(checkout, GATE="50", MAX_REJECTED="7", LIMIT="3")
    shown = checkout.make("-n", "preprocess")
    assert "--max_rejected 0" in shown.stdout and "--limit 3" in shown.stdout
    done = checkout.make("weights")
    assert all(f"{name}.mk: removed" in done.stderr for name in ("GATE", "MAX_REJECTED")), done.stderr
    assert [path.name for path in folder.iterdir()] == ["LIMIT.mk"]


def test_all_errors_of_a_call_are_printed(checkout: Checkout) -> None:
    done = checkout.make("eval", "WEIGHTS=missing.pth", "SOC=nonsense", "LIMIT=abc")
    assert done.returncode == 2
    named = [
        value for line in done.stderr.splitlines() for value in line.split() if value.endswith(":") and "=" in value
    ]
    assert named == ["LIMIT=abc:", "SOC=nonsense:", "WEIGHTS=missing.pth:"], done.stderr
    assert not (checkout.root / "build").exists()


def test_a_misspelt_demo_gets_the_nearest_name(checkout: Checkout) -> None:
    done = checkout.make("demo", model="demo_dgits")
    assert done.returncode == 2 and "did you mean demo_digits?" in done.stderr


def test_a_value_that_the_first_stage_rejects_is_not_remembered(checkout: Checkout) -> None:
    """The value is a damaged ONNX file. The next call, without ONNX, uses the file that was remembered before."""
    (checkout.root / "damaged.onnx").write_bytes(b"\x08\x07\x12\x00")
    folder = remember(checkout, ONNX="hrnet/x.onnx")
    done = checkout.make("om", "ONNX=damaged.onnx", "BACKEND=onnxruntime")
    assert done.returncode == 2 and "not remembered" in done.stderr and "BACKEND=onnxruntime" in done.stderr
    assert (folder / "ONNX.mk").read_text() == "ONNX ?= hrnet/x.onnx\n"
    assert [path.name for path in folder.iterdir()] == ["ONNX.mk"]
    assert "--model hrnet/x.onnx" in checkout.make("-n", "om").stdout
