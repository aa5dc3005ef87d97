"""benchmarks/pose_chain.py: keypoints that differ from upstream's are an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pose_chain import PART, compare
from hrnet.cli import WorkFailed
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.parts import keypoints_path
from hrnet.pose.decode import to_image


def test_other_keypoints_are_an_error(tmp_path: Path) -> None:
    image = InputImage("a", "images/a.jpg", None, 128, 64, [3, 64, 128], 7, [64.0, 32.0], [0.64, 0.32])
    keypoints = np.random.default_rng(0).uniform(1, 60, (2, 17, 5)).astype(np.float32)
    placed = to_image(keypoints, [64.0, 32.0], [0.64, 0.32], (128, 64))[:, :, :3]
    scores = np.array([0.5, 0.25], np.float32)
    people = [
        {"image_id": 7, "keypoints": [float(value) for value in person.ravel()], "score": float(score)}
        for person, score in zip(placed, scores)
    ]
    make_folder(tmp_path / "prep")
    Manifest("coco", "c" * 64, "d" * 64, "float32", "NCHW", "npy", 1, 0, [image]).write(tmp_path / "prep/manifest.json")
    keypoints_path(tmp_path / PART).write_text(json.dumps(people))
    assert compare(tmp_path, {"a": (keypoints, scores)}) == (2, 0.0, 0.0)
    keypoints[1, 3, 0] += 0.5
    with pytest.raises(WorkFailed) as error:
        compare(tmp_path, {"a": (keypoints, scores)})
    assert error.value.where == "a" and "0.5 pixels" in str(error.value.found)
    with pytest.raises(WorkFailed) as error:
        compare(tmp_path, {"a": (keypoints[:1], scores[:1])})
    assert (error.value.where, error.value.expected, error.value.found) == ("a", 1, 2)
