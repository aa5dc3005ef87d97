"""postprocess/show_pose.py: bones lie where the joints are, in a colour for each person; who is unsure is left out."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from postprocess import show_pose
from postprocess.sheet import PAPER
from postprocess.show_pose import BORDER, SIDE, TILE
from tests.postprocess import coco_scenes
from tests.postprocess.pose_runs import OTHER, PoseRun, spread

FACTOR = SIDE / coco_scenes.SIDE  # of a photograph's pixels to its place
GREY = 60


def person(image: int, score: float, **joints: tuple[float, float, float]) -> dict[str, Any]:
    """Joints by number (`_11`): x, y and score; all others unseen."""
    values = [0.0] * 51
    for name, joint in joints.items():
        at = 3 * int(name[1:])
        values[at : at + 3] = joint
    return {"image_id": image, "category_id": 1, "keypoints": values, "score": score}


@pytest.fixture
def run(tmp_path: Path) -> PoseRun:
    """Two grey photographs, the second twice as wide as high."""
    dataset = spread(2)
    dataset["images"][1]["height"] //= 2
    run = PoseRun(tmp_path, dataset)
    for told in dataset["images"]:
        path = tmp_path / "images/val2017" / told["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (told["width"], told["height"]), GREY).save(path)
    return run


def call(run: PoseRun, *more: str) -> int:
    named = ["--manifest", str(run.manifest), "--keypoints", str(run.keypoints), "--dataset", str(run.root)]
    return show_pose.main([*named, "--output", str(run.root / "eval/show.png"), *more])


def sheet(run: PoseRun) -> Image.Image:
    with Image.open(run.root / "eval/show.png") as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        picture.load()
    return picture


def pixel(picture: Image.Image, tile: int, x: float, y: float) -> object:
    """At x, y of a photograph that stands `tile`-th in the first row and fills its place's width."""
    top = (SIDE - 200 * FACTOR) / 2 if tile == 1 else 0
    left = BORDER + tile * (TILE[0] + BORDER) + BORDER
    return picture.getpixel((round(left + x * FACTOR), round(2 * BORDER + top + y * FACTOR)))


def test_bones_lie_where_the_joints_are(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    first = person(10, 0.9, _11=(100, 200, 0.9), _12=(300, 200, 0.9), _5=(100, 100, 0.9), _6=(300, 100, 0.04))
    second = person(10, 0.5, _11=(100, 300, 0.2), _12=(300, 300, 0.9))
    lying = person(20, 0.9, _5=(100, 50, 0.9), _6=(300, 50, 0.9))
    run.find([first, second, lying])
    assert call(run) == 0
    told = f"wrote {run.root}/eval/show.png: the first 2 of 2 images, 3 people of a score above 0.1\n"
    assert capsys.readouterr().out == told
    assert stat.S_IMODE((run.root / "eval/show.png").stat().st_mode) == 0o640
    picture = sheet(run)
    assert picture.size == (2 * (TILE[0] + BORDER) + BORDER, TILE[1] + 2 * BORDER)
    one, other = show_pose.colours(2)
    assert pixel(picture, 0, 200, 200) == one and pixel(picture, 0, 200, 300) == other
    assert pixel(picture, 0, 100, 150) == one, "shoulder to hip"
    assert pixel(picture, 0, 200, 100) == (GREY,) * 3, "no bone to a joint that is not held for seen"
    assert pixel(picture, 0, 200, 250) == (GREY,) * 3
    assert pixel(picture, 0, 100, 200) == one, "a sure joint's dot is filled"
    assert pixel(picture, 0, 100, 300) == ImageColor.getrgb(PAPER), "an unsure one's is not"
    assert pixel(picture, 1, 200, 50) == one, "the second image's first person"
    assert pixel(picture, 1, 200, -20) == ImageColor.getrgb(PAPER), "padded, not stretched"


def test_people_of_a_low_score_are_not_drawn(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    hips = {"_11": (100.0, 200.0, 0.9), "_12": (300.0, 200.0, 0.9)}
    run.find([person(10, 0.1, **hips)])
    assert call(run) == 0
    assert pixel(sheet(run), 0, 200, 200) == (GREY,) * 3
    assert "2 images, 0 people of a score above 0.1" in capsys.readouterr().out


def test_count(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.find([])
    assert call(run, "--count", "1") == 0
    assert sheet(run).size == (TILE[0] + 2 * BORDER, TILE[1] + 2 * BORDER)
    assert "the first 1 of 2 images" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 4, 30])
def test_each_person_has_a_colour(count: int) -> None:
    found = show_pose.colours(count)
    assert len(set(found)) == count
    assert all(max(colour) == 255 and min(colour) < 70 for colour in found), "bright, and no grey"


def test_a_missing_photograph(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.find([])
    (run.root / "images/val2017/000000000020.jpg").unlink()
    assert call(run) == 2
    line = f"{run.root}/images/val2017/000000000020.jpg: no such image; give DATASET=<folder>\n"
    assert capsys.readouterr().err == f"postprocess.show_pose: error: {line}"
    assert not (run.root / "eval/show.png").exists()


def test_keypoints_of_other_inputs(run: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.find([], manifest_sha256=OTHER)
    assert call(run) == 2
    assert capsys.readouterr().err == (
        f"postprocess.show_pose: error: {run.keypoints}: was decoded from other inputs "
        f"(expected those of {run.manifest}); run make eval\n"
    )
