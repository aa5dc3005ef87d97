"""train/pose/reference.py: its inputs, people and AP compared with those of the pipeline."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from data import people as drawn_people
from hrnet.config import config_sha256, load_config
from hrnet.io.coco import read_keypoints
from hrnet.io.manifest import InputImage, Manifest
from hrnet.nets import checkpoint, pose
from hrnet.pose.average_precision import evaluate, ground_truth, percentages
from hrnet.pose.decode import decode, read_settings, to_image
from postprocess.gate import find_reference
from preprocess import pose as preprocess
from tests.support import tiny
from tests.support.coco_sets import annotations, write_annotations
from tests.train.calls import error_line
from train.pose import reference

IMAGES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny net, drawn people, and their inputs made by preprocess without gears, at upstream's sizes."""
    folder = tmp_path_factory.mktemp("reference")
    tiny.write_pose_weights(folder)
    cfg = folder / "tiny_pose.yaml"
    text = cfg.read_text().replace(f"GEARS: {tiny.GEARS}", "GEARS: []")
    cfg.write_text(text.replace("INPUT_SIZE: 64", "INPUT_SIZE: 64\n  MAX_NUM_PEOPLE: 2"))
    data = ["--output", str(folder / "people"), "--images", str(IMAGES), "--size", "70", "--seed", "4"]
    assert drawn_people.main(data) == 0
    source = ["--cfg", str(cfg), "--dataset", str(folder / "people"), "--output", str(folder / "prep")]
    assert preprocess.main([*source, "--workers", "1"]) == 0
    return folder


def call(folder: Path, *more: str) -> int:
    given = ["--cfg", folder / "tiny_pose.yaml", "--weights", folder / "tiny_pose.pth", "--dataset", folder / "people"]
    return reference.main(
        [*map(str, given), "--manifest", f"{folder}/prep/manifest.json", "--output", f"{folder}/ref/torch.json", *more]
    )


def images(folder: Path) -> list[InputImage]:
    return Manifest.read(folder / "prep/manifest.json").images


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), ((704, 512), [320.0, 240.0], [3.3, 2.4])),
        ((480, 641), ((512, 704), [240.0, 321.0], [2.4, 3.3])),
        ((500, 500), ((512, 512), [250.0, 250.0], [2.5, 2.5])),
        ((333, 640), ((512, 1024), [167.0, 320.0], [1.665, 3.33])),
        ((640, 300), ((1152, 512), [320.0, 150.0], [3.375, 1.5])),
    ],
)
def test_upstreams_input_size_equals_that_computed_by_hand(size: tuple[int, int], expected: tuple) -> None:
    found = reference.view(*size, 512)
    assert (found.size, found.center) == expected[:2]
    assert found.scale == pytest.approx(expected[2])


def test_inputs_equal_those_of_preprocess(folder: Path) -> None:
    config = load_config(folder / "tiny_pose.yaml")
    for image in images(folder):
        pixels = reference.read_pixels(folder / "people" / image.source)
        part = reference.view(image.width, image.height, 64)
        assert (list(part.center), list(part.scale)) == (image.center, image.scale)
        found = reference.prepare(pixels, part, config)
        np.testing.assert_array_equal(found, np.load(folder / f"prep/{image.stem}.npy"))


@pytest.mark.parametrize("flip", [1, 0])
def test_people_equal_those_of_the_prepared_inputs(folder: Path, flip: int) -> None:
    assert call(folder, "--keypoints", f"{folder}/ref/people.json", "--flip", str(flip)) == 0
    config = load_config(folder / "tiny_pose.yaml")
    net = pose.build(config).eval()
    weights = checkpoint.load(net, folder / "tiny_pose.pth")
    expected = []
    for image in images(folder):
        given = torch.from_numpy(np.load(folder / f"prep/{image.stem}.npy"))
        with torch.inference_mode():
            outputs, flipped = ([each.numpy() for each in net(one)] for one in (given, given.flip(3)))
        people = decode(outputs, flipped if flip else None, read_settings(config))
        assert image.center is not None and image.scale is not None
        keypoints = to_image(people.keypoints, image.center, image.scale, image.sides()[::-1])
        expected += [(image.image_id, each[:, :3], score) for each, score in zip(keypoints, people.scores)]
    found = read_keypoints(folder / "ref/people.json")
    assert len(found) == len(expected) > IMAGES
    for person, (image_id, keypoints, score) in zip(found, expected):
        assert person["image_id"] == image_id and person["score"] == pytest.approx(score)
        np.testing.assert_allclose(np.reshape(person["keypoints"], (17, 3)), keypoints, rtol=1e-6)
    record = json.loads((folder / "ref/torch.json").read_text())
    assert (record["kind"], record["images"], record["people"], record["flip"]) == (
        "metrics",
        IMAGES,
        len(found),
        bool(flip),
    )
    assert record["weights_sha256"] == weights and record["config_sha256"] == config_sha256(config)
    manifest = Manifest.read(folder / "prep/manifest.json").images_sha256()
    truth, ids = json.loads(annotations(folder / "people").read_text()), [image.image_id for image in images(folder)]
    assert record["metrics"] == percentages(evaluate(ground_truth(truth), found, ids))
    found_reference = find_reference("AP", folder / "ref/torch.json", config, manifest)
    assert found_reference == {"AP": record["metrics"]["AP"], "source": f"{record['tool']} on the same images"}
    assert record["tool"].startswith("torch ")


def test_an_image_is_read_as_it_is_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    np.testing.assert_array_equal(reference.read_pixels(tmp_path / "a.png"), pixels)


def error_of(folder: Path, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    return error_line(capsys, lambda: call(folder, *map(str, more)))


def test_errors_name_the_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = ("--dataset", tmp_path)
    assert f"{tmp_path}/annotations/person_keypoints_val2017.json: " in error_of(folder, capsys, *dataset)
    (tmp_path / "annotations").mkdir()
    truth = json.loads(annotations(folder / "people").read_text())
    write_annotations(tmp_path, truth)
    first = tmp_path / images(folder)[0].source
    assert f"{first}: no such image" in error_of(folder, capsys, *dataset)
    first.parent.mkdir(parents=True)
    first.write_bytes(b"no image")
    assert f"{first}: not a readable image" in error_of(folder, capsys, *dataset)
    write_annotations(tmp_path, {**truth, "images": truth["images"][:-1]})
    error = error_of(folder, capsys, *dataset)
    assert f"{annotations(tmp_path)}: " in error and f"found {IMAGES}" in error
    cfg = tmp_path / "other.yaml"
    cfg.write_text((folder / "tiny_pose.yaml").read_text().replace("INPUT_SIZE: 64", "INPUT_SIZE: 128"))
    error = error_of(folder, capsys, "--cfg", cfg)
    assert f"{folder}/prep/manifest.json: " in error and f"run preprocess with {cfg}" in error


def test_a_data_set_without_people_is_rejected(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads(annotations(folder / "people").read_text())
    (tmp_path / "annotations").mkdir()
    write_annotations(tmp_path, {**truth, "annotations": []})
    (tmp_path / "images").symlink_to(folder / "people/images")
    error = error_of(folder, capsys, "--dataset", tmp_path)
    assert f"found no person in {IMAGES} images" in error and "LIMIT=0" in error


def test_a_second_run_computes_only_after_a_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "torch.json"
    work = Mock(side_effect=reference.find_people)
    monkeypatch.setattr(reference, "find_people", work)

    def works(*more: str) -> bool:
        work.reset_mock()
        assert call(folder, "--output", str(output), *more) == 0
        return work.called

    assert works()
    before = output.read_bytes()
    os.utime(output, (1, 1))
    assert not works() and output.stat().st_mtime > 1 and output.read_bytes() == before
    assert works("--flip", "1") and works() and not works()
    output.write_text("damaged")
    assert works() and not works()
    with monkeypatch.context() as patch:
        patch.setattr("hrnet.io.stamp.code_sha256", lambda *modules: "other code")
        assert works() and not works()
