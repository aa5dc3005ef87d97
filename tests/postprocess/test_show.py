"""postprocess/show.py and tiles.py: what is drawn where, for both tasks, and what is rejected."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from postprocess import classification, merge, show, tiles
from postprocess.tiles import BORDER, CLASS_SIDE, LINE, PAPER, POSE_SIDE
from tests.support import coco_scenes
from tests.support.classification_run import Run
from tests.support.pose_run import PoseRun, spread

LOGITS = np.array([[0, 5, 1, 2, 3, 4], [9, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 7]], dtype=np.float32)
RIGHT, WRONG = ImageColor.getrgb(tiles.RIGHT), ImageColor.getrgb(tiles.WRONG)
CLASS_TILE = (CLASS_SIDE + 2 * BORDER, CLASS_SIDE + 3 * BORDER + 6 * LINE)
POSE_TILE = (POSE_SIDE + 2 * BORDER, POSE_SIDE + 3 * BORDER + LINE)
FACTOR = POSE_SIDE / coco_scenes.SIDE  # a position in an image, times FACTOR, is its position in the tile
GREY = 60


def call(run: Run | PoseRun, *more: object) -> int:
    given = ["--cfg", run.cfg, "--predictions", run.predictions, "--dataset", run.root, *more]
    given += ["--output", run.root / "eval/show.png"]
    return show.main(list(map(str, given)))


def sheet(run: Run | PoseRun) -> Image.Image:
    path = run.root / "eval/show.png"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        picture.load()
    return picture


def size(tile: tuple[int, int], columns: int, rows: int = 1) -> tuple[int, int]:
    return columns * (tile[0] + BORDER) + BORDER, rows * (tile[1] + BORDER) + BORDER


def rejected(run: Run | PoseRun, where: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(run) == 2
    assert capsys.readouterr().err.startswith(f"postprocess.show: error: {where}: ")
    assert not (run.root / "eval/show.png").exists()


def test_seven_tiles_in_six_columns_need_two_rows() -> None:
    assert tiles.draw_sheet([Image.new("RGB", CLASS_TILE)] * 7, 6).size == size(CLASS_TILE, 6, 2)


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path: Path) -> Run:
    """Three images of one grey each: hit, wrong, hit."""
    run = Run(tmp_path, LOGITS, [1, 3, 5], classes=6)
    (tmp_path / "val").mkdir()
    for number in range(3):
        Image.new("L", (30, 20), 50 * number).save(tmp_path / f"val/img{number}.JPEG")
    assert classification.main(run.arguments()) == 0
    return run


def test_images_newer_than_the_predictions_are_reported(classes: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(classes) == 0 and capsys.readouterr().err == ""
    later = classes.predictions.stat().st_mtime_ns + 1
    for number in (0, 2):
        os.utime(classes.root / f"val/img{number}.JPEG", ns=(later, later))
    assert call(classes) == 0
    error = capsys.readouterr().err
    assert error.startswith("WARNING: 2 images newer") and f"touch {classes.root}/val; make show" in error


def test_hits_and_errors_have_their_colours(classes: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(classes) == 0
    assert capsys.readouterr().out.endswith("the first 3 images, Top-1 wrong on 1\n")
    picture = sheet(classes)
    assert picture.size == size(CLASS_TILE, 3)
    for number, frame in enumerate((RIGHT, WRONG, RIGHT)):
        left, middle = BORDER + number * (CLASS_TILE[0] + BORDER), CLASS_TILE[0] // 2
        assert picture.getpixel((left, BORDER)) == frame
        assert picture.getpixel((left + middle, BORDER + middle)) == (50 * number,) * 3, "in the manifest's order"
        assert picture.getpixel((left + middle, 2 * BORDER)) == (255,) * 3, "padded, not stretched"
    assert call(classes, "--count", 1) == 0
    assert sheet(classes).size == size(CLASS_TILE, 1)


@pytest.mark.parametrize("content", [None, b"no JPEG"])
def test_an_unreadable_image_is_rejected(
    content: bytes | None, classes: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = classes.root / "val/img1.JPEG"
    path.unlink() if content is None else path.write_bytes(content)
    rejected(classes, path, capsys)


@pytest.mark.parametrize("content", [None, "{}\n", "no JSON\n"])
def test_unreadable_predictions_are_rejected(
    content: str | None, classes: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    classes.predictions.unlink() if content is None else classes.predictions.write_text(content)
    rejected(classes, classes.predictions, capsys)


def text_width(picture: Image.Image, row: int) -> int:
    """Width in pixels of the text in a row below the first image; 0 is the label's."""
    top = BORDER + CLASS_SIDE + 2 * BORDER + row * LINE
    tile = picture.crop((BORDER, top, BORDER + CLASS_TILE[0], top + LINE)).convert("L")
    columns = np.flatnonzero((np.asarray(tile) < 200).any(axis=0))
    return int(columns[-1] - columns[0])


def test_class_names(classes: Run) -> None:
    """The names of the config are drawn; a long one is cut off with dots at the tile's border."""
    assert call(classes) == 0
    without = sheet(classes)
    names = ["cat", "d", "American Staffordshire terrier and friends", "bird", "fish", "kite 猫"]
    (classes.root / "names.txt").write_text("\n".join(names), encoding="utf-8")
    classes.cfg.write_text(classes.cfg.read_text() + "INPUT: {CLASS_NAMES: names.txt}\n")
    assert call(classes) == 0
    drawn = sheet(classes)
    assert drawn.size == without.size and text_width(drawn, 0) < text_width(without, 0), "d, not class 1"
    widest = max(text_width(drawn, row) for row in range(1, 6))
    assert CLASS_TILE[0] - 30 < widest <= CLASS_TILE[0] - 2 * BORDER


def test_a_wrong_number_of_class_names(classes: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (classes.root / "names.txt").write_text("cat\n")
    classes.cfg.write_text(classes.cfg.read_text() + "INPUT: {CLASS_NAMES: names.txt}\n")
    rejected(classes, classes.cfg, capsys)


# --- poses ------------------------------------------------------------------------------------------------------------


def person(image: int, score: float, **joints: tuple[float, float, float]) -> dict[str, Any]:
    """Joints by number (`_11`): x, y and score; all others unseen."""
    values = [0.0] * 51
    for name, joint in joints.items():
        at = 3 * int(name[1:])
        values[at : at + 3] = joint
    return {"image_id": image, "category_id": 1, "keypoints": values, "score": score}


def evaluated(run: PoseRun, people: list[dict[str, Any]]) -> PoseRun:
    """The files of an evaluation that found these people."""
    assert merge.main(run.find(people).merge_arguments()) == 0
    return run


@pytest.fixture
def poses(tmp_path: Path) -> PoseRun:
    """Two grey images, the second twice as wide as high."""
    dataset = spread(2)
    dataset["images"][1]["height"] //= 2
    run = PoseRun(tmp_path, dataset)
    for entry in dataset["images"]:
        path = tmp_path / "images/val2017" / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (entry["width"], entry["height"]), GREY).save(path)
    return run


def pixel(picture: Image.Image, tile: int, x: float, y: float) -> object:
    """At x, y of the `tile`-th image, which is as wide as its tile."""
    top = (POSE_SIDE - 200 * FACTOR) / 2 if tile == 1 else 0
    left = BORDER + tile * (POSE_TILE[0] + BORDER) + BORDER
    return picture.getpixel((round(left + x * FACTOR), round(2 * BORDER + top + y * FACTOR)))


def test_bones_and_joints_are_drawn(poses: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    first = person(10, 0.9, _11=(100, 200, 0.9), _12=(300, 200, 0.9), _5=(100, 100, 0.9), _6=(300, 100, 0.04))
    second = person(10, 0.5, _11=(100, 300, 0.2), _12=(300, 300, 0.9))
    third = person(20, 0.9, _5=(100, 50, 0.9), _6=(300, 50, 0.9))
    evaluated(poses, [first, second, third])
    assert call(poses) == 0
    assert capsys.readouterr().out.endswith("the first 2 images, 3 people with a score above 0.1\n")
    picture = sheet(poses)
    assert picture.size == size(POSE_TILE, 2)
    one, other = tiles.colours(2)
    assert pixel(picture, 0, 200, 200) == one and pixel(picture, 0, 200, 300) == other
    assert pixel(picture, 0, 100, 150) == one, "shoulder to hip"
    assert pixel(picture, 0, 200, 100) == (GREY,) * 3, "no bone to a joint of a low score"
    assert pixel(picture, 0, 200, 250) == (GREY,) * 3
    assert pixel(picture, 0, 100, 200) == one, "the dot of a joint of a high score is filled"
    assert pixel(picture, 0, 100, 300) == ImageColor.getrgb(PAPER), "that of a low score is not"
    assert pixel(picture, 1, 200, 50) == one, "the second image's first person"
    assert pixel(picture, 1, 200, -20) == ImageColor.getrgb(PAPER), "padded, not stretched"


def test_people_of_a_low_score_are_not_drawn(poses: PoseRun) -> None:
    evaluated(poses, [person(10, 0.1, _11=(100.0, 200.0, 0.9), _12=(300.0, 200.0, 0.9))])
    assert call(poses, "--count", 1) == 0
    assert sheet(poses).size == size(POSE_TILE, 1)
    assert pixel(sheet(poses), 0, 200, 200) == (GREY,) * 3


@pytest.mark.parametrize("count", [1, 4, 30])
def test_each_person_has_its_own_colour(count: int) -> None:
    found = tiles.colours(count)
    assert len(set(found)) == count
    assert all(max(colour) == 255 and min(colour) < 70 for colour in found), "bright, and no grey"


def test_a_missing_image_is_rejected(poses: PoseRun, capsys: pytest.CaptureFixture[str]) -> None:
    path = evaluated(poses, []).root / "images/val2017/000000000020.jpg"
    path.unlink()
    rejected(poses, path, capsys)
