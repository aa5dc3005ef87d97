"""data/people.py and data/figures.py: equal bytes for equal seeds, and annotations that match the images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import figures, people
from hrnet.io import coco
from hrnet.pose.joints import COUNT, NAMES

IMAGES = 60
ELBOW, NOSE = NAMES.index("left_elbow"), 0


def written(folder: Path, *options: object) -> dict[str, Any]:
    assert people.main(["--output", str(folder), "--size", "128", *map(str, options)]) == 0
    content: dict[str, Any] = json.loads((folder / "annotations/person_keypoints_val2017.json").read_text())
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module", autouse=True)
def content(folder: Path) -> dict[str, Any]:
    return written(folder, "--images", IMAGES)


def keypoints(person: dict[str, Any]) -> np.ndarray:
    return np.array(person["keypoints"]).reshape(COUNT, 3)


def test_the_data_set_has_the_layout_of_coco(folder: Path, content: dict[str, Any]) -> None:
    names = [image["file_name"] for image in content["images"]]
    assert sorted(path.name for path in (folder / "images/val2017").iterdir()) == names
    assert (names[0], len(names)) == ("000000000001.jpg", IMAGES)
    for image in content["images"]:
        with Image.open(folder / "images/val2017" / image["file_name"]) as picture:
            assert (picture.format, picture.size) == ("JPEG", (image["width"], image["height"]))
        assert min(image["width"], image["height"]) == 128
    assert len(coco.read_annotations(folder / "annotations/person_keypoints_val2017.json").images) == IMAGES
    assert len({(image["width"], image["height"]) for image in content["images"]}) > 5


def test_a_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """A smaller set has the first images of a larger one. Another seed gives other images; another split with the same
    seed gives the same images."""
    written(tmp_path / "a", "--images", 3)
    written(tmp_path / "b", "--images", 3, "--seed", 2)
    for name in ("000000000001.jpg", "000000000003.jpg"):
        first = (folder / "images/val2017" / name).read_bytes()
        assert (tmp_path / "a/images/val2017" / name).read_bytes() == first
        assert (tmp_path / "b/images/val2017" / name).read_bytes() != first
    assert people.main(["--output", str(tmp_path / "a"), "--split", "train2017", "--images", "1", "--size", "64"]) == 0
    assert (tmp_path / "a/annotations/person_keypoints_train2017.json").is_file()
    assert len(list((tmp_path / "a/images/train2017").iterdir())) == 1
    written(tmp_path / "a", "--images", 1, "--size", 64)
    name = "000000000001.jpg"
    both = [(tmp_path / "a/images" / split / name).read_bytes() for split in ("train2017", "val2017")]
    assert both[0] == both[1]


def test_annotations_have_the_fields_of_coco(content: dict[str, Any]) -> None:
    (category,) = content["categories"]
    assert (category["id"], category["name"], category["keypoints"]) == (1, "person", list(NAMES))
    assert category["skeleton"][0] == [16, 14]
    assert [person["id"] for person in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for person in content["annotations"]:
        joints, (width, height) = keypoints(person), sizes[person["image_id"]]
        marked = joints[:, 2] > 0
        assert set(joints[:, 2]) <= {0, 1, 2}
        assert person["num_keypoints"] == marked.sum()
        assert not joints[~marked].any()
        assert (joints[marked, :2] >= 0).all() and (joints[marked, :2] <= (width, height)).all()
        x, y, wide, high = person["bbox"]
        assert 0 <= x < x + wide <= width
        assert 0 <= y < y + high <= height
        assert 0 < person["area"] <= wide * high


def test_images_have_crowds_hidden_joints_and_empty_scenes(content: dict[str, Any]) -> None:
    found = content["annotations"]
    counts = Counter(person["image_id"] for person in found)
    assert len(counts) < IMAGES  # some images have no people
    assert max(counts.values()) > 2
    assert any(person["iscrowd"] and person["num_keypoints"] == 0 for person in found)
    assert any(not person["iscrowd"] and person["num_keypoints"] == 0 for person in found)
    flags = Counter(flag for person in found if person["num_keypoints"] for flag in keypoints(person)[:, 2].tolist())
    assert flags[2] > flags[0] > 0
    assert flags[1] > 0


def test_the_mask_of_a_crowd_has_its_area(content: dict[str, Any]) -> None:
    crowd = next(person for person in content["annotations"] if person["iscrowd"])
    lengths, (height, width) = crowd["segmentation"]["counts"], crowd["segmentation"]["size"]
    assert sum(lengths) == height * width
    mask = np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(width, height).T
    assert mask.sum() == crowd["area"]
    x, y, wide, high = crowd["bbox"]
    assert mask[y : y + high, x : x + wide].sum() == crowd["area"]


@pytest.mark.parametrize("mask", [[[0, 1], [1, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 1]], [[1, 0], [0, 0]]])
def test_run_lengths_start_with_the_background_and_go_by_columns(mask: list[list[int]]) -> None:
    owner = np.array(mask) - 1
    crowd = people.annotate_crowd(owner, 1)
    assert crowd is not None and people.annotate_crowd(np.full((3, 3), -1), 2) is None
    lengths = crowd["segmentation"]["counts"]
    assert np.repeat(np.arange(len(lengths)) % 2, lengths).tolist() == np.array(mask).T.reshape(-1).tolist()


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_limbs_have_their_lengths_whatever_the_pose(seed: int) -> None:
    joints, head, _ = figures.pose(np.random.default_rng(seed))
    for side in (0, 1):
        arm, leg = joints[[5 + side, 7 + side, 9 + side]], joints[[11 + side, 13 + side, 15 + side]]
        assert np.allclose(np.linalg.norm(np.diff(arm, axis=0), axis=1), (figures.UPPER_ARM, figures.FOREARM))
        assert np.allclose(np.linalg.norm(np.diff(leg, axis=0), axis=1), (figures.THIGH, figures.SHIN))
    assert joints[5, 0] > joints[6, 0]  # seen from the front, left is on the right
    assert np.isclose(np.linalg.norm(head), figures.NECK)


def shown(seed: int) -> tuple[figures.Canvas, figures.Figure]:
    figure = figures.make_figure(np.random.default_rng(seed), 200, 200, 300)
    canvas = figures.Canvas(np.zeros((400, 400, 3), np.uint8))
    figures.draw(canvas, figure, 0)
    return canvas, figure


@pytest.mark.parametrize("seed", range(8))
def test_left_joints_are_on_the_persons_left(seed: int) -> None:
    """A person who faces the viewer has a visible nose and the left shoulder on the right; from behind neither."""
    canvas, figure = shown(seed)
    flags = figures.visibility(canvas, figure, 0)
    if figure.towards < 0:
        assert flags[NOSE] == 0
    elif figure.towards > 0.5:
        assert flags[NOSE] == 2
        assert figure.points[5, 0] > figure.points[6, 0]


def test_a_joint_behind_something_is_hidden_and_one_beyond_the_border_is_not_marked() -> None:
    canvas, figure = shown(0)
    before = figures.visibility(canvas, figure, 0)
    assert before[ELBOW] == 2
    around = figure.points[ELBOW, :2] + np.array([(-30, -30), (30, -30), (30, 30), (-30, 30)])
    canvas.fill(around.astype(np.float32), (1, 2, 3), people.OBJECT, figures.OCCLUDER)
    after = figures.visibility(canvas, figure, 0)
    assert after[ELBOW] == 1
    canvas.owner = canvas.owner[:, : int(figure.points[ELBOW, 0]) - 1]
    assert figures.visibility(canvas, figure, 0)[ELBOW] == 0


def test_plain_scenes_have_few_large_people(tmp_path: Path) -> None:
    content = written(tmp_path, "--images", 30, "--scenes", "plain")
    assert content["info"]["scenes"] == "plain"
    counts = Counter(person["image_id"] for person in content["annotations"])
    assert len(counts) == 30 and set(counts.values()) == {1, 2, 3}
    assert not any(person["iscrowd"] for person in content["annotations"])
    heights = np.array([person["bbox"][3] for person in content["annotations"]])
    assert heights.max() <= 128 and np.median(heights) > 0.6 * 128
    marked = np.array([person["num_keypoints"] for person in content["annotations"]])
    assert (marked > 0).mean() > 0.9 and marked.max() == COUNT


def test_invalid_options_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        people.main(["--size", "10"])
    assert caught.value.code == 2
    assert "--size: expected an integer of at least 64, found '10'" in capsys.readouterr().err
