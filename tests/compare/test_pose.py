"""compare.pose with a tiny net and drawn people: its last column is equal to eval's metrics, and its figures agree with
the outputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from atc import convert
from compare import operators
from compare import pose as compare_pose
from data import people as drawn_people
from hrnet.io.coco import read_keypoints, write_keypoints
from hrnet.io.manifest import Manifest
from hrnet.io.records import read_record
from infer import run as infer
from postprocess import pose as evaluate
from preprocess import pose as preprocess
from pth2onnx import pose as export
from tests.compare.small_chain import arguments
from tests.support import in_process, tiny
from tests.support.errors import check_error
from train.pose import reference

IMAGES = 2
CFG, MANIFEST, MODEL = "tiny_pose.yaml", "prep/manifest.json", "om/fp16.onnx"
RUNS = {"run": "out/fp16_run.json", "run_flip": "out-flip/fp16_run.json"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of all stages, with the flip test and in float16, and the people that torch finds in the images and in
    the inputs."""
    folder = tmp_path_factory.mktemp("pose")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        in_process.run_emulators(patch)
        weights = tiny.write_pose_weights(folder)
        text = Path(CFG).read_text()  # random weights find people everywhere
        Path(CFG).write_text(text.replace("INPUT_SIZE: 64", "INPUT_SIZE: 64\n  MAX_NUM_PEOPLE: 2"))
        assert drawn_people.main(arguments(output="people", images=IMAGES, size=64, seed=4)) == 0
        assert export.main(arguments(cfg=CFG, weights=weights, output="m.onnx")) == 0
        given = {"cfg": CFG, "model": "m.onnx", "output": MODEL, "precision": "fp16", "batch_size": 1}
        assert convert.main(arguments(**given)) == 0
        assert preprocess.main(arguments(cfg=CFG, dataset="people", output="prep", workers=1)) == 0
        assert infer.main(arguments(model=MODEL, inputs="prep", output="out/fp16", output_flip="out-flip/fp16")) == 0
        given = {"cfg": CFG, "dataset": "people", "manifest": MANIFEST, "output": "eval/fp16.json", "workers": 1}
        assert evaluate.main(arguments(**given, **RUNS)) == 0
        given = {"cfg": CFG, "weights": weights, "dataset": "people", "manifest": MANIFEST, "flip": 1}
        for name, more in (("images", []), ("inputs", ["--inputs"])):
            files = {"output": f"torch/{name}.json", "keypoints": f"torch/{name}.keypoints.json"}
            assert reference.main([*arguments(**given, **files), *more]) == 0
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(built, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def compare(*more: str, **changes: object) -> int:
    given = {"cfg": CFG, "dataset": "people", "manifest": MANIFEST, "onnx": "m.onnx", "model": MODEL}
    files = {"run": RUNS["run"], "metrics": "eval/fp16.json", "output": "compare/stages.json"}
    return compare_pose.main([*arguments(**{**given, **files, **changes}), *(more or ["--flip"])])


def record() -> dict[str, Any]:
    return read_record("compare/stages.json", "comparison")


def test_the_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = {"torch_images": "torch/images.keypoints.json", "torch_inputs": "torch/inputs.keypoints.json"}
    assert compare(**torch) == 0
    found, metrics = record(), read_record("eval/fp16.json", "metrics")
    names = ["torch images", "torch inputs", "ONNX", "compiled", "infer"]
    assert [column["name"] for column in found["columns"]] == names
    last = found["columns"][-1]
    assert (last["people"], last["AP"], found["images"]) == (metrics["people"], metrics["metrics"]["AP"], IMAGES)
    steps = {step["to"]: step for step in found["steps"]}
    assert steps["ONNX"]["matched"] > 0 and steps["ONNX"]["oks"] > 0.99, "float32 on the same inputs"
    assert steps["infer"]["changed"] == [] and steps["infer"]["oks"] == 1 and steps["infer"]["max"] == 0
    assert "max" not in steps["ONNX"], "torch's maps are not kept"
    screen = capsys.readouterr().out
    assert "mean OKS of matched people" in screen and "max difference of maps" in screen


def test_differences_of_maps_agree_with_the_files(folder: Path) -> None:
    assert compare() == 0
    step = record()["steps"][0]
    session, largest = onnxruntime.InferenceSession("m.onnx"), 0.0
    for image in Manifest.read(MANIFEST).images:
        maps = session.run(None, {session.get_inputs()[0].name: np.load(f"prep/{image.stem}.npy")})
        for k, each in enumerate(maps):
            written = np.load(f"out/fp16/{image.stem}_{k}.npy")
            largest = max(largest, float(np.abs(each.astype(np.float64) - written).max()))
    assert (step["from"], step["to"]) == ("ONNX", "compiled") and largest > 0
    assert step["max"] == pytest.approx(largest, rel=1e-3)


def test_lost_people_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = read_keypoints("torch/inputs.keypoints.json")
    first = people[0]["image_id"]
    write_keypoints("less.json", [person for person in people if person["image_id"] != first])
    assert compare(torch_images="torch/inputs.keypoints.json", torch_inputs="less.json") == 0
    (changed,) = record()["steps"][0]["changed"]
    assert (changed["image_id"], changed["to"], changed["matched"]) == (first, 0, 0) and changed["from"] > 0
    assert f"torch images -> torch inputs: lost or new people in {changed['source']}" in capsys.readouterr().out


def test_keypoints_that_differ_from_the_metrics_are_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The number of people in keypoints.json differs from that in the metrics record."""
    people = read_keypoints("eval/fp16/keypoints.json")
    write_keypoints("eval/fp16/keypoints.json", people[:-1])
    assert compare() == 2
    check_error(capsys.readouterr().err, "compare.pose", "eval/fp16.json", "people", "make eval")


def test_operators_with_gears(folder: Path) -> None:
    given = {"cfg": CFG, "onnx": "m.onnx", "model": MODEL, "inputs": "prep", "output": "compare/operators.json"}
    assert operators.main(arguments(**given)) == 0
    found = read_record("compare/operators.json", "operators")["operators"]
    own = {each["node"]: each["own_error"] for each in found}
    assert all(value < 2e-3 for value in own.values()) and own["/conv1/Conv"] > 0
    assert {each["layer"] for each in found} >= {"conv1", "final_layers.0", "deconv_layers.0.0.0"}
