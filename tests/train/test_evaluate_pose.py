"""train/evaluate_pose.py: inputs beside the chain's, people beside those of its decoder, AP beside its own."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data import people as drawn_people
from hrnet.config import config_sha256, load_config
from hrnet.io.coco import read_keypoints
from hrnet.io.files import sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.nets import checkpoint, pose
from hrnet.pose.decode import decode, read_settings, to_image
from postprocess import average_precision
from postprocess.gate import find_reference
from preprocess import pose as preprocess
from tests import tiny
from tests.postprocess.coco_scenes import results, scene
from tests.preprocess.coco_sets import annotations, write_annotations
from train import evaluate_pose

IMAGES = 3
FIGURES = evaluate_pose.FIGURES


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny net, drawn people, and their inputs as the chain makes them, without gears: at upstream's sizes."""
    place = tmp_path_factory.mktemp("evaluate_pose")
    tiny.write_pose_weights(place, joints=17)
    cfg = place / "tiny_pose.yaml"
    text = cfg.read_text().replace(f"GEARS: {tiny.GEARS}", "GEARS: []")
    cfg.write_text(text.replace("INPUT_SIZE: 64", "INPUT_SIZE: 64\n  MAX_NUM_PEOPLE: 2"))
    data = ["--output", str(place / "people"), "--images", str(IMAGES), "--size", "70", "--seed", "4"]
    assert drawn_people.main(data) == 0
    source = ["--cfg", str(cfg), "--dataset", str(place / "people"), "--output", str(place / "prep")]
    assert preprocess.main([*source, "--workers", "1"]) == 0
    return place


def call(place: Path, *more: str) -> int:
    given = ["--cfg", place / "tiny_pose.yaml", "--weights", place / "tiny_pose.pth", "--dataset", place / "people"]
    return evaluate_pose.main(
        [*map(str, given), "--manifest", f"{place}/prep/manifest.json", "--output", f"{place}/ref/torch.json", *more]
    )


def images(place: Path) -> list[InputImage]:
    return Manifest.read(place / "prep/manifest.json").images


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((640, 480), ((704, 512), [320.0, 240.0], [3.3, 2.4])),
        ((480, 641), ((512, 704), [240.0, 321.0], [2.4, 3.3])),
        ((500, 500), ((512, 512), [250.0, 250.0], [2.5, 2.5])),
        ((333, 640), ((512, 1024), [167.0, 320.0], [1.665, 3.33])),
        ((640, 300), ((1152, 512), [320.0, 150.0], [3.375, 1.5])),
    ],
)
def test_upstreams_view_by_hand(size: tuple[int, int], seen: tuple) -> None:
    found = evaluate_pose.view(*size, 512)
    assert (found.size, found.center) == seen[:2]
    assert found.scale == pytest.approx(seen[2])


def test_inputs_are_the_chains_to_the_bit(place: Path) -> None:
    config = load_config(place / "tiny_pose.yaml")
    for image in images(place):
        pixels = evaluate_pose.read_pixels(place / "people" / image.source)
        seen = evaluate_pose.view(image.width, image.height, 64)
        assert (list(seen.center), list(seen.scale)) == (image.center, image.scale)
        found = evaluate_pose.prepare(pixels, seen, config)
        np.testing.assert_array_equal(found, np.load(place / f"prep/{image.stem}.npy"))


@pytest.mark.parametrize("flip", [True, False])
def test_people_are_those_of_the_chains_inputs(place: Path, flip: bool) -> None:
    assert call(place, "--keypoints", f"{place}/ref/people.json", *(["--flip"] if flip else [])) == 0
    config = load_config(place / "tiny_pose.yaml")
    net = pose.build(config).eval()
    weights = checkpoint.load(net, place / "tiny_pose.pth")
    expected = []
    for image in images(place):
        given = torch.from_numpy(np.load(place / f"prep/{image.stem}.npy"))
        with torch.inference_mode():
            outputs, mirrored = ([each.numpy() for each in net(one)] for one in (given, given.flip(3)))
        people = decode(outputs, mirrored if flip else None, read_settings(config))
        assert image.center is not None and image.scale is not None
        placed = to_image(people.keypoints, image.center, image.scale, image.sides()[::-1])
        expected += [(image.image_id, each[:, :3], score) for each, score in zip(placed, people.scores)]
    found = read_keypoints(place / "ref/people.json")
    assert len(found) == len(expected) > IMAGES
    for person, (image_id, keypoints, score) in zip(found, expected):
        assert person["image_id"] == image_id and person["score"] == pytest.approx(score)
        np.testing.assert_allclose(np.reshape(person["keypoints"], (17, 3)), keypoints, rtol=1e-6)
    record = json.loads((place / "ref/torch.json").read_text())
    assert (record["kind"], record["images"], record["people"], record["flip"]) == ("metrics", IMAGES, len(found), flip)
    assert record["weights_sha256"] == weights and record["config_sha256"] == config_sha256(config)
    manifest = sha256_file(place / "prep/manifest.json")
    held = find_reference("AP", place / "ref/torch.json", config, manifest)
    assert held == {"AP": record["metrics"]["AP"], "source": f"{record['tool']} on the same images"}
    assert record["tool"].startswith("torch ")


def test_figures_are_those_of_postprocess() -> None:
    """Two that call pycocotools, and share no line."""
    truth = scene(3, 8, 4)
    people = results(truth, 3, blur=4)
    ids = [image["id"] for image in truth["images"]][1:]
    told = average_precision.evaluate(average_precision.ground_truth(truth), people, ids).stats
    found = evaluate_pose.average_precision(truth, people, ids)
    assert list(found) == list(FIGURES)
    assert [found[name] for name in FIGURES] == [100 * value if value >= 0 else None for value in told]
    assert 0 < (found["AP"] or 0) < 100
    assert evaluate_pose.average_precision(truth, [], ids)["AP"] == 0


def test_a_photograph_is_taken_as_it_is_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    np.testing.assert_array_equal(evaluate_pose.read_pixels(tmp_path / "a.png"), pixels)


def test_faults_are_told(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*more: str) -> str:
        assert call(place, *more) == 2
        return capsys.readouterr().err.removeprefix("train.evaluate_pose: error: ")

    assert refused("--dataset", str(tmp_path)).startswith(f"{tmp_path}/annotations/person_keypoints_val2017.json: no ")
    (tmp_path / "annotations").mkdir()
    truth = json.loads(annotations(place / "people").read_text())
    write_annotations(tmp_path, truth)
    first = tmp_path / images(place)[0].source
    line = f"{first}: no such image; is --dataset the folder that was preprocessed?\n"
    assert refused("--dataset", str(tmp_path)) == line
    first.parent.mkdir(parents=True)
    first.write_bytes(b"no image")
    assert refused("--dataset", str(tmp_path)) == f"{first}: is no readable image\n"
    write_annotations(tmp_path, {**truth, "images": truth["images"][:-1]})
    line = f"{annotations(tmp_path)}: does not know images of the manifest (found {IMAGES})\n"
    assert refused("--dataset", str(tmp_path)) == line
    cfg = tmp_path / "other.yaml"
    cfg.write_text((place / "tiny_pose.yaml").read_text().replace("INPUT_SIZE: 64", "INPUT_SIZE: 128"))
    manifest = f"{place}/prep/manifest.json"
    line = f"{manifest}: was made for another config; run preprocess with {cfg}\n"
    assert refused("--cfg", str(cfg)) == line


def test_nobody_to_be_found(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads(annotations(place / "people").read_text())
    (tmp_path / "annotations").mkdir()
    write_annotations(tmp_path, {**truth, "annotations": []})
    (tmp_path / "images").symlink_to(place / "people/images")
    assert call(place, "--dataset", str(tmp_path)) == 2
    line = f"AP needs a person with keypoints (found nobody on {IMAGES} images); give more images: LIMIT=0\n"
    assert capsys.readouterr().err.endswith(line)
