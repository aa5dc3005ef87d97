"""The images of an annotation file, and the line of each fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrnet.io import coco
from hrnet.io.records import FormatError

FIRST = {"id": 9, "file_name": "10.jpg", "width": 640, "height": 480}
SECOND = {"id": 8, "file_name": "9.jpg", "width": 500, "height": 375, "license": 3}


def written(folder: Path, content: Any) -> Path:
    path = folder / "person_keypoints_val2017.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_images_in_natural_order(tmp_path: Path) -> None:
    path = written(tmp_path, {"images": [FIRST, SECOND], "annotations": "not looked at"})
    assert coco.read_images(path) == [(8, "9.jpg", 500, 375), (9, "10.jpg", 640, 480)]
    assert coco.annotation_path(Path("d"), "val2017") == Path("d/annotations/person_keypoints_val2017.json")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ([FIRST], "lists no images (expected a COCO annotation file)"),
        ({"images": []}, "lists no images (expected a COCO annotation file)"),
        ({"images": [FIRST, 5]}, "images: entry 1 ({}, found [null, null, null, null])"),
        ({"images": [{**FIRST, "id": "9"}]}, 'images: entry 0 ({}, found ["9", "10.jpg", 640, 480])'),
        ({"images": [{**FIRST, "width": 0}]}, 'images: entry 0 ({}, found [9, "10.jpg", 0, 480])'),
        ({"images": [{**FIRST, "file_name": ""}]}, 'images: entry 0 ({}, found [9, "", 640, 480])'),
        ({"images": [FIRST, {**SECOND, "id": 9}]}, "images: id stands twice (found 9)"),
        ({"images": [FIRST, {**FIRST, "id": 1}]}, "images: file stands twice (found 10.jpg)"),
    ],
)
def test_no_annotation_file(content: Any, line: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(FormatError) as caught:
        coco.read_images(path)
    assert str(caught.value) == f"{path}: {line.replace('{}', 'expected id, file_name, width and height')}"


def test_a_missing_annotation_file(tmp_path: Path) -> None:
    expected = "expected COCO's annotations/person_keypoints_<split>.json"
    with pytest.raises(FormatError) as caught:
        coco.read_images(tmp_path / "x.json")
    assert str(caught.value) == f"{tmp_path / 'x.json'}: no annotation file ({expected}); give DATASET=<folder>"
