"""postprocess/decode.py, through postprocess.pose: the people that hrnet.pose.decode finds; what is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from hrnet.io import tensors
from hrnet.io.coco import read_keypoints
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.parts import Part, keypoints_path, predictions_path
from hrnet.io.predictions import PosePrediction, read_predictions
from hrnet.pose.decode import STEPS, decode, to_image
from postprocess.pose import main
from tests.support.pose_run import MODEL, OTHER, PoseRun, spread


@pytest.fixture
def run(tmp_path: Path) -> PoseRun:
    return PoseRun(tmp_path, spread()).infer()


def directly(run: PoseRun, flip: bool) -> list[dict[str, Any]]:
    """The people that the library finds in the outputs, as COCO results."""
    found = []
    for image in Manifest.read(run.manifest).images:
        pairs = [
            [np.load(folder / f"{image.stem}_{k}.npy") for k in range(2)]
            for folder in ([run.folder, run.flipped] if flip else [run.folder])
        ]
        people = decode(*pairs)
        height, width = image.sides()
        keypoints = to_image(people.keypoints, image.center, image.scale, (width, height))  # type: ignore[arg-type]
        for joints, score in zip(keypoints, people.scores):
            entry = {"image_id": image.image_id, "category_id": 1}
            found.append({**entry, "keypoints": joints[:, :3].reshape(-1).tolist(), "score": float(score)})
    return found


@pytest.mark.parametrize("flip", [True, False])
def test_people_equal_those_of_the_library(run: PoseRun, flip: bool) -> None:
    assert main(run.decode_arguments(flip=flip)) == 0
    people = json.loads(keypoints_path(run.part).read_text())
    assert people == directly(run, flip)
    assert [person["image_id"] for person in people] == [10, 20, 20, 30, 30]
    record = Part.read(run.part)
    assert (record.made_from["manifest_sha256"], record.model_sha256) == (sha256_file(run.manifest), MODEL)
    assert (record.shard, record.flip, record.images, record.inferred) == ([1, 1], flip, 3, 3)
    assert (record.tool, record.metadata["model"]) == ("emulator 1", "small")
    assert set(record.seconds) == {"infer", "read", *STEPS}
    assert record.seconds["infer"] == (0.5 if flip else 0.25), "of both passes"
    lines = list(read_predictions(predictions_path(run.part), PosePrediction))
    scores = [[person["score"] for person in people if person["image_id"] == line.image_id] for line in lines]
    assert [(line.image_id, line.people, line.score) for line in lines] == [
        (number, len(found), max(found)) for number, found in zip((10, 20, 30), scores)
    ]
    assert [line.gear for line in lines] == [list(image.sides()) for image in Manifest.read(run.manifest).images]


def test_people_do_not_depend_on_the_workers(run: PoseRun) -> None:
    assert main(run.decode_arguments()) == 0
    alone = keypoints_path(run.part).read_bytes()
    run.part.unlink()
    assert main(run.decode_arguments("--workers", "2")) == 0
    assert keypoints_path(run.part).read_bytes() == alone


def test_joints_are_where_they_were_annotated(run: PoseRun) -> None:
    """Within one pixel of the coarser map, in pixels of the source image."""
    assert main(run.decode_arguments()) == 0
    marked = json.loads(run.annotations.read_text())["annotations"]
    for person in json.loads(keypoints_path(run.part).read_text()):
        joints = np.reshape(person["keypoints"], (17, 3))[:, :2]
        others = [
            np.reshape(each["keypoints"], (17, 3))[:, :2] for each in marked if each["image_id"] == person["image_id"]
        ]
        assert min(np.abs(joints - other).max() for other in others) < 4 * 400 / 128


def test_images_kept_by_a_resumed_inference_are_not_timed(run: PoseRun) -> None:
    run.rewrite(run.folder, kept=2)
    assert main(run.decode_arguments()) == 0
    assert Part.read(run.part).inferred == 1


def test_no_people_are_an_empty_list(tmp_path: Path) -> None:
    run = PoseRun(tmp_path, {**spread(2), "annotations": []}).infer()
    assert main(run.decode_arguments()) == 0
    assert read_keypoints(keypoints_path(run.part)) == []
    lines = list(read_predictions(predictions_path(run.part), PosePrediction))
    assert [(line.people, line.score) for line in lines] == [(0, None), (0, None)]


def spoil(path: Path) -> None:
    array = np.load(path)
    array[0, 3, 5, 5] = np.nan
    tensors.write_npy(path, array)


Change = Callable[[PoseRun], object]
IMAGE = "000000000020"
RUN, RUN_FLIP, AGAIN = "{folder}_run.json", "{flipped}_run.json", "rm {folder}_run.json; make infer"


def rewrite(folder: str, **changes: Any) -> Change:
    return lambda run: run.rewrite(getattr(run, folder), **changes)


def halve(run: PoseRun) -> None:
    path = run.folder / f"{IMAGE}_0.npy"
    path.write_bytes(path.read_bytes()[:200])


def reshape(run: PoseRun) -> None:
    tensors.write_npy(run.folder / f"{IMAGE}_1.npy", np.zeros((1, 17, 64, 64), np.float32))


REJECTED: dict[str, tuple[Change, str, str]] = {  # a change, the file that is named, and a part of the line
    "other config": (lambda run: run.edit_config("[128, 192]", "[128, 256]"), "{manifest}", "run make preprocess"),
    "model of another config": (rewrite("folder", metadata={"model": "w48", "config_sha256": OTHER}), RUN, "found w48"),
    "two models": (rewrite("flipped", model_sha256=OTHER), RUN_FLIP, "run make infer"),
    "the flipped run as the run": (rewrite("folder", flipped=True), RUN, "flipped"),
    "the run as the flipped run": (rewrite("flipped", flipped=False), RUN_FLIP, "flipped"),
    "other inputs": (rewrite("flipped", manifest_sha256=OTHER), RUN_FLIP, "run make infer"),
    "too few images": (rewrite("folder", files={}), RUN, AGAIN),
    "one output": (rewrite("folder", outputs=[TensorInfo("class", "float32", [1, 5])]), RUN, "found ['class']"),
    "a missing file": (lambda run: (run.flipped / f"{IMAGE}_1.npy").unlink(), "{flipped}/000000000020_1.npy", AGAIN),
    "half a file": (halve, "{folder}/000000000020_0.npy", "make infer"),
    "another shape": (reshape, "{folder}/000000000020_1.npy", "expected [1, 17, 64, 96], found [1, 17, 64, 64]"),
    "NaN": (lambda run: spoil(run.folder / f"{IMAGE}_1.npy"), "{folder}/000000000020", "NaN"),
    "no flipped run": (lambda run: run.flipped.with_name("run_run.json").unlink(), RUN_FLIP, "run make infer"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_files_that_do_not_match_are_rejected(run: PoseRun, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, where, part = REJECTED[what]
    change(run)
    assert main(run.decode_arguments()) == 2
    names = {"manifest": run.manifest, "folder": run.folder, "flipped": run.flipped}
    line = capsys.readouterr().err
    assert line.startswith(f"postprocess.pose: error: {where.format(**names)}: ") and line.count("\n") == 1
    assert part.format(**names) in line
    assert not run.part.exists()


def test_several_scales_are_rejected(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.edit_config("true}", "true, SCALE_FACTOR: [0.5, 1]}")
    assert main(run.decode_arguments()) == 2
    assert "SCALE_FACTOR" in capsys.readouterr().err


def test_thresholds_come_from_the_config(run: PoseRun) -> None:
    run.edit_config("true}", "true, DETECTION_THRESHOLD: 1.0}")
    assert main(run.decode_arguments()) == 0
    assert read_keypoints(keypoints_path(run.part)) == []
