"""postprocess/decode.py: the people of hrnet.pose.decode, through files; what does not belong together is refused."""

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
from hrnet.io.runs import DecodeRecord
from hrnet.pose.decode import STEPS, decode, to_image
from postprocess.decode import main
from tests.postprocess.pose_runs import MODEL, OTHER, PoseRun, spread


@pytest.fixture
def run(tmp_path: Path) -> PoseRun:
    return PoseRun(tmp_path, spread()).infer()


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("postprocess.decode: error: ").rstrip("\n")


def directly(run: PoseRun, flip: bool) -> list[dict[str, Any]]:
    """What the library finds in the outputs, as COCO results."""
    found = []
    for image in Manifest.read(run.manifest).images:
        pairs = [
            [np.load(folder / f"{image.stem}_{k}.npy") for k in range(2)]
            for folder in ([run.folder, run.flipped] if flip else [run.folder])
        ]
        people = decode(*pairs)
        height, width = image.sides()
        placed = to_image(people.keypoints, image.center, image.scale, (width, height))  # type: ignore[arg-type]
        for joints, score in zip(placed, people.scores):
            told = {"image_id": image.image_id, "category_id": 1}
            found.append({**told, "keypoints": joints[:, :3].reshape(-1).tolist(), "score": float(score)})
    return found


@pytest.mark.parametrize("flip", [True, False])
def test_people_are_the_library_s(run: PoseRun, flip: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(run.decode_arguments(flip=flip)) == 0
    people = json.loads(run.keypoints.read_text())
    assert people == directly(run, flip)
    assert [person["image_id"] for person in people] == [10, 20, 20, 30, 30]
    assert capsys.readouterr().out.startswith(f"found 5 people on 3 images, {run.keypoints} (")
    record = DecodeRecord.read(run.keypoints)
    assert (record.manifest_sha256, record.model_sha256) == (sha256_file(run.manifest), MODEL)
    assert (record.flip, record.images, record.people, record.inferred) == (flip, 3, 5, 3)
    assert (record.tool, record.metadata["model"]) == ("twin 1", "pose")
    assert set(record.seconds) == {"infer", "read", *STEPS}
    assert record.seconds["infer"] == (3.0 if flip else 1.5), "of both passes"


def test_workers_change_nothing(run: PoseRun) -> None:
    assert main(run.decode_arguments()) == 0
    alone = run.keypoints.read_bytes()
    assert main(run.decode_arguments("--workers", "2")) == 0
    assert run.keypoints.read_bytes() == alone


def test_joints_stand_where_they_were_marked(run: PoseRun) -> None:
    """Within an oracle's pixel of the coarser map, in pixels of the photograph."""
    assert main(run.decode_arguments()) == 0
    marked = json.loads(run.annotations.read_text())["annotations"]
    for person in json.loads(run.keypoints.read_text()):
        joints = np.reshape(person["keypoints"], (17, 3))[:, :2]
        others = [
            np.reshape(each["keypoints"], (17, 3))[:, :2] for each in marked if each["image_id"] == person["image_id"]
        ]
        assert min(np.abs(joints - other).max() for other in others) < 4 * 400 / 128


def test_an_inference_that_went_on_counts_what_it_did(run: PoseRun) -> None:
    run.rewrite(run.folder, kept=2)
    assert main(run.decode_arguments()) == 0
    assert DecodeRecord.read(run.keypoints).inferred == 1


def test_nobody_is_an_empty_list(tmp_path: Path) -> None:
    run = PoseRun(tmp_path, {**spread(2), "annotations": []}).infer()
    assert main(run.decode_arguments()) == 0
    assert read_keypoints(run.keypoints) == []
    assert DecodeRecord.read(run.keypoints).people == 0


def spoil(path: Path) -> None:
    array = np.load(path)
    array[0, 3, 5, 5] = np.nan
    tensors.write_npy(path, array)


IMAGE = "000000000020"
Change = Callable[[PoseRun], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "other config": (
        lambda run: run.cfg.write_text(run.cfg.read_text().replace("[128, 192]", "[128, 256]")),
        "{manifest}: was made for another config than {cfg}; run make preprocess",
    ),
    "model of another config": (
        lambda run: run.rewrite(run.folder, metadata={"model": "w48", "config_sha256": OTHER}),
        "{folder}: is of a model of another config (expected {cfg}, found w48); say the MODEL that the ONNX file was "
        "made from",
    ),
    "two models": (
        lambda run: run.rewrite(run.flipped, model_sha256=OTHER),
        "{flipped}: was made by another model than --dump_dir; run make infer",
    ),
    "flipped given as straight": (
        lambda run: run.rewrite(run.folder, flipped=True),
        "{folder}: is the other run (expected those of the images as they are)",
    ),
    "straight given as flipped": (
        lambda run: run.rewrite(run.flipped, flipped=False),
        "{flipped}: is the other run (expected the flipped images' outputs)",
    ),
    "other inputs": (
        lambda run: run.rewrite(run.flipped, manifest_sha256=OTHER),
        "{flipped}: run was made from other inputs (expected those of {manifest}); run make infer",
    ),
    "an image too few": (
        lambda run: run.rewrite(run.folder, files={}),
        "{folder}: outputs and inputs differ (found 000000000010, 000000000020, 000000000030); "
        "rm {folder}_run.json; make infer",
    ),
    "one output": (
        lambda run: run.rewrite(run.folder, outputs=[TensorInfo("class", "float32", [1, 5])]),
        "{folder}: HigherHRNet has two outputs (found ['class'])",
    ),
    "a missing file": (
        lambda run: (run.flipped / f"{IMAGE}_1.npy").unlink(),
        "{flipped}/000000000020_1.npy: output is missing; rm {folder}_run.json; make infer",
    ),
    "half a file": (
        lambda run: (run.folder / f"{IMAGE}_0.npy").write_bytes((run.folder / f"{IMAGE}_0.npy").read_bytes()[:200]),
        "{folder}/000000000020_0.npy: is no readable output: ",
    ),
    "another shape": (
        lambda run: tensors.write_npy(run.folder / f"{IMAGE}_1.npy", np.zeros((1, 17, 64, 64), np.float32)),
        "{folder}/000000000020_1.npy: shape (expected [1, 17, 64, 96], found [1, 17, 64, 64]); "
        "rm {folder}_run.json; make infer",
    ),
    "NaN": (
        lambda run: spoil(run.folder / f"{IMAGE}_1.npy"),
        "{folder}/000000000020: outputs hold NaN or infinity: the input, the weights or an overflow in fp16",
    ),
    "no flip record": (
        lambda run: run.flipped.with_name("run_run.json").unlink(),
        "{flipped}_run.json: no run record; run make infer",
    ),
    "a scale": (
        lambda run: run.cfg.write_text(run.cfg.read_text().replace("true}", "true, SCALE_FACTOR: [0.5, 1]}")),
        "TEST.SCALE_FACTOR is not done here (expected [1], found [0.5, 1])",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_belong_together(run: PoseRun, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = REFUSED[what]
    change(run)
    assert main(run.decode_arguments()) == 2
    line = refusal(capsys)
    names = {"manifest": run.manifest, "cfg": run.cfg, "folder": run.folder, "flipped": run.flipped}
    assert line.startswith(expected.format(**names)) and "\n" not in line
    assert not run.keypoints.exists() and not DecodeRecord.path(run.keypoints).exists()


def test_thresholds_are_the_config_s(run: PoseRun) -> None:
    """No peak is above 1."""
    run.cfg.write_text(run.cfg.read_text().replace("true}", "true, DETECTION_THRESHOLD: 1.0}"))
    assert main(run.decode_arguments()) == 0
    assert read_keypoints(run.keypoints) == []
