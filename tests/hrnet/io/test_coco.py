"""The images of an annotation file, and each way in which one can be invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrnet.io import coco
from tests.hrnet.io.invalid import check_invalid

FIRST = {"id": 9, "file_name": "10.jpg", "width": 640, "height": 480}
SECOND = {"id": 8, "file_name": "9.jpg", "width": 500, "height": 375, "license": 3}


def written(folder: Path, content: Any) -> Path:
    path = folder / "person_keypoints_val2017.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_images_in_natural_order(tmp_path: Path) -> None:
    path = written(tmp_path, {"images": [FIRST, SECOND], "annotations": "ignored"})
    assert coco.read_images(path) == [(8, "9.jpg", 500, 375), (9, "10.jpg", 640, 480)]
    assert coco.annotation_path(Path("d"), "val2017") == Path("d/annotations/person_keypoints_val2017.json")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not JSON"),
        ([FIRST], "lists no images"),
        ({"images": []}, "lists no images"),
        ({"images": [FIRST, 5]}, "entry 1"),
        ({"images": [{**FIRST, "id": "9"}]}, 'found ["9", "10.jpg", 640, 480]'),
        ({"images": [{**FIRST, "width": 0}]}, 'found [9, "10.jpg", 0, 480]'),
        ({"images": [{**FIRST, "file_name": ""}]}, 'found [9, "", 640, 480]'),
        ({"images": [FIRST, {**SECOND, "id": 9}]}, "duplicate id (found 9)"),
        ({"images": [FIRST, {**FIRST, "id": 1}]}, "duplicate file (found 10.jpg)"),
    ],
)
def test_invalid_annotation_files(content: Any, part: str, tmp_path: Path) -> None:
    check_invalid(coco.read_images, written(tmp_path, content), part)


def test_a_missing_annotation_file(tmp_path: Path) -> None:
    check_invalid(coco.read_images, tmp_path / "x.json", "DATASET")
