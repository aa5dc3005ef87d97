"""Annotation files: the content of valid files, and each way in which a file can be invalid."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hrnet.io import coco
from hrnet.io.records import FormatError
from hrnet.pose.average_precision import evaluate, ground_truth
from hrnet.pose.joints import NAMES
from tests.support.coco_scenes import results, scene
from tests.support.invalid_records import check_invalid

FIRST = {"id": 9, "file_name": "10.jpg", "width": 640, "height": 480}
SECOND = {"id": 8, "file_name": "9.jpg", "width": 500, "height": 375, "license": 3}
CATEGORY = {"id": 1, "name": "person", "keypoints": list(NAMES)}
JOINTS = [0, 0, 0] * 14 + [100, 100, 2, 120, 200, 1, 140, 150.5, 2]
PERSON = {"id": 7, "image_id": 9, "category_id": 1, "iscrowd": 0, "area": 5000.5, "bbox": [90, 90.5, 60, 120]}
PERSON.update({"num_keypoints": 3, "keypoints": JOINTS, "segmentation": [[90, 90, 150, 90, 150, 200]]})
CROWD = {**PERSON, "id": 11, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51}
VALID = {"images": [FIRST, SECOND], "annotations": [PERSON], "categories": [CATEGORY]}
MISSING = object()


def written(folder: Path, content: Any) -> Path:
    path = folder / "annotations/person_keypoints_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def person(**changes: Any) -> dict[str, Any]:
    """The content of a file with one person, whose fields are changed."""
    fields = {name: value for name, value in {**PERSON, **changes}.items() if value is not MISSING}
    return {**VALID, "annotations": [fields]}


def test_images_are_in_natural_order_and_people_unchanged(tmp_path: Path) -> None:
    path = written(tmp_path, VALID)
    found = coco.read_annotations(path)
    assert found.images == [(8, "9.jpg", 500, 375), (9, "10.jpg", 640, 480)]
    assert found.people == [PERSON]
    assert coco.annotation_path(Path("d"), "val2017") == Path("d/annotations/person_keypoints_val2017.json")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert coco.read_annotations(path) == found, "with the mark of Windows' editors"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b'{"images": [{"id": 1', "truncated"),
        (b'{"images": [{"file_na', "truncated"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html><p>404", "an HTML page"),
        (b'{"images": []}}', "line 1, column 15"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 12345\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xff\xfe{\0", "not UTF-8 text"),
        (b"[1]", "found [1]"),
        (b'{"info": 1}', "found info"),
    ],
)
def test_the_hint_for_a_damaged_file_does_not_remove_it(
    content: bytes, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file belongs to the user, so the hint has no `rm`. MAKELEVEL is set, as in a call of make."""
    monkeypatch.setenv("MAKELEVEL", "1")
    path = tmp_path / "person_keypoints_val2017.json"
    path.write_bytes(content)
    error = check_invalid(coco.read_annotations, path, part)
    assert error.hint == coco.COPY_AGAIN and "give another DATASET=" in error.hint


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"images": ' + "9" * 5000, "not JSON"),
        ([FIRST], "a list in images, annotations, categories"),
        ({}, "a list in images, annotations, categories, found {})"),
        ({**VALID, "annotations": None}, "a list in annotations"),
        ({**VALID, "images": []}, "no images"),
        ({**VALID, "images": [FIRST, 5]}, "entry 1"),
        ({**VALID, "images": [{**FIRST, "id": "9"}]}, 'found ["9", "10.jpg", 640, 480]'),
        ({**VALID, "images": [{**FIRST, "id": 2**63}]}, "entry 0"),
        ({**VALID, "images": [{**FIRST, "width": 0}]}, 'found [9, "10.jpg", 0, 480]'),
        ({**VALID, "images": [{**FIRST, "width": 640.0}]}, 'found [9, "10.jpg", 640.0, 480]'),
        ({**VALID, "images": [{**FIRST, "height": float("nan")}]}, 'found [9, "10.jpg", 640, NaN]'),
        ({**VALID, "images": [{**FIRST, "height": True}]}, "entry 0"),
        ({**VALID, "images": [{**FIRST, "file_name": ""}]}, 'found [9, "", 640, 480]'),
        ({**VALID, "images": [{**FIRST, "file_name": "../train2017/10.jpg"}]}, "image 9: outside of the directory"),
        ({**VALID, "images": [{**FIRST, "file_name": "/etc/10.jpg"}]}, "image 9: outside of the directory"),
        ({**VALID, "images": [{**FIRST, "file_name": "a\0.jpg"}]}, "image 9: not a file name"),
        ({**VALID, "images": [{**FIRST, "file_name": "\ud800.jpg"}]}, "image 9: not a file name"),
        ({**VALID, "images": [FIRST, {**SECOND, "id": 9}]}, "duplicate id (found 9)"),
        ({**VALID, "images": [FIRST, {**SECOND, "file_name": "./10.jpg"}]}, "duplicate file (found 10.jpg)"),
        ({**VALID, "categories": []}, "found none"),
        ({**VALID, "categories": [{"id": 1, "name": "human"}]}, 'found "human"'),
        ({**VALID, "categories": [{"name": "person"}]}, "ids and names"),
        ({**VALID, "categories": [CATEGORY, {"id": 2, "name": "person"}]}, "person"),
        ({**VALID, "categories": [CATEGORY, {"id": 1, "name": "dog"}]}, "duplicate id (found 1)"),
        ({**VALID, "categories": [{**CATEGORY, "id": 2}]}, "annotation 7: invalid category_id (expected 2 (person)"),
        ({**VALID, "categories": [{**CATEGORY, "keypoints": list(NAMES[:14])}]}, "17 joints"),
        ({**VALID, "categories": [{**CATEGORY, "keypoints": list(NAMES[::-1])}]}, "in the wrong order"),
        ({**VALID, "annotations": [PERSON, PERSON]}, "duplicate id (found 7)"),
        ({**VALID, "annotations": [PERSON, 5]}, "annotations: invalid entry 1"),
    ],
)
def test_invalid_annotation_files_are_rejected(content: Any, part: str, tmp_path: Path) -> None:
    check_invalid(coco.read_annotations, written(tmp_path, content), part)


NAN, HUGE = float("nan"), 10**400
INVALID: dict[str, list[Any]] = {
    "id": [MISSING, "7", 7.0, None, True, HUGE],
    "image_id": [MISSING, "9", 9.0, None, 10],
    "category_id": [MISSING, "1", None, 2, True],
    "iscrowd": [MISSING, 2, "0", None, False, 0.0],
    "area": [MISSING, NAN, float("inf"), "5000", None, True, 0, -1.0, 1, 0.2, 1e9, HUGE],
    "num_keypoints": [MISSING, "3", None, True, 3.0, 0, 4, 17],
    "keypoints": [MISSING, None, [1, 2], JOINTS[:42], [*JOINTS[:50], 3], [*JOINTS[:50], "2"], [*JOINTS[:50], 0.5],
                  [*JOINTS[:50], True], [NAN, *JOINTS[1:]], [None, *JOINTS[1:]], [HUGE, *JOINTS[1:]]],
    "bbox": [MISSING, None, [1, 2, 3], [1, 2, -3, 4], [1, 2, NAN, 4], ["1", 2, 3, 4], [1, 2, HUGE, 4]],
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_each_invalid_field_is_named_with_its_annotation(name: str, tmp_path: Path) -> None:
    for value in INVALID[name]:
        error = check_invalid(coco.read_annotations, written(tmp_path, person(**{name: value})), name)
        at = "number 0" if name == "id" else "7"
        assert error.what == f"annotation {at}: invalid {name}", value
        assert "\n" not in str(error) and len(str(error)) < 400


def test_the_error_for_an_area_without_joints_shows_the_limit(tmp_path: Path) -> None:
    content = {**VALID, "annotations": [{**CROWD, "area": 1e9}]}
    check_invalid(coco.read_annotations, written(tmp_path, content), "expected 0 to 1228800 pixels, found")


def test_joints_of_crowdpose_are_rejected(tmp_path: Path) -> None:
    error = check_invalid(coco.read_annotations, written(tmp_path, person(keypoints=JOINTS[:42])), "17 joints")
    assert error.found == "42 numbers"


def test_a_missing_annotation_file_is_rejected(tmp_path: Path) -> None:
    check_invalid(coco.read_annotations, tmp_path / "x.json", "DATASET")


def test_valid_files_that_differ_from_cocos_are_read(tmp_path: Path) -> None:
    """People without a box, an area without labelled joints, floats as flags, other categories with other joints."""
    hidden = {**CROWD, "iscrowd": 0, "area": 0, "bbox": [0, 0, 0, 0]}
    boxless = {**PERSON, "id": -1, "bbox": [0, 0, 0, 0], "keypoints": [float(value) for value in JOINTS]}
    hand = {"id": 7, "category_id": 5, "keypoints": [1, 2, 3]}
    categories = [{**CATEGORY, "id": 1}, {"id": 5, "name": "hand"}]
    content = {"images": [FIRST], "annotations": [hand, PERSON, hidden, boxless], "categories": categories}
    assert coco.read_annotations(written(tmp_path, content)).people == [PERSON, hidden, boxless]


@pytest.mark.parametrize(
    "name", ["cam1/10.jpg", "./cam1/10.jpg", "cam1\\10.jpg", "{folder}/cam1/10.jpg", "x/../cam1/10.jpg"]
)
def test_paths_below_the_folder_of_images_are_normalised(name: str, tmp_path: Path) -> None:
    image = {**FIRST, "file_name": name.format(folder=tmp_path / "images/val2017")}
    path = written(tmp_path, {**VALID, "images": [image, SECOND]})
    assert [each.file_name for each in coco.read_annotations(path).images] == ["9.jpg", "cam1/10.jpg"]
    (tmp_path / "link").symlink_to(tmp_path)
    linked = tmp_path / "link/annotations" / path.name
    assert len(coco.read_annotations(linked).images) == 2, "absolute, and the data set's folder is a link"


def test_ap_does_not_depend_on_the_ids(tmp_path: Path) -> None:
    """Annotation ids from 0 (pycocotools' "no match"), negative and huge ids, another id of the category person."""
    content = scene(5, 8, 5)
    people, ids = results(content, 1, 6.0), [image["id"] for image in content["images"]]
    expected = evaluate(ground_truth(copy.deepcopy(content)), people, ids).stats.tolist()
    for first in (0, -3, 2**62):
        edited = copy.deepcopy(content)
        edited["categories"] = [{"id": 3, "name": "dog"}, {"id": 0, "name": "person"}]
        for number, entry in enumerate(edited["annotations"]):
            entry.update({"id": first + number, "category_id": 0, "score": NAN, "ignore": 1})
        edited["annotations"].append({**edited["annotations"][0], "category_id": 3, "id": 1})
        truth = coco.read_annotations(written(tmp_path, edited)).truth()
        assert evaluate(ground_truth(truth), people, ids).stats.tolist() == expected


# --- segmentations, for training --------------------------------------------------------------------------------------


def outlined(folder: Path, segmentation: Any, **changes: Any) -> Any:
    """The segmentation of a crowd, as it is read for training; the image has 6 x 4 pixels."""
    crowd = {**CROWD, "bbox": [0, 0, 2, 2], "area": 4, "segmentation": segmentation, **changes}
    image = {"id": 9, "file_name": "a.jpg", "width": 6, "height": 4}
    content = {**VALID, "images": [image], "annotations": [crowd]}
    (found,) = coco.read_annotations(written(folder, content), segmentations=True).people
    return found["segmentation"]


def test_outlines_are_read_as_by_pycocotools(tmp_path: Path) -> None:
    runs = {"counts": [3, 5, 16], "size": [4, 6]}
    assert outlined(tmp_path, runs) == runs
    assert outlined(tmp_path, {"counts": "35`0", "size": [4, 6]}) == runs
    triangle = [0, 0, 4, 0, 4, 3.5]
    assert outlined(tmp_path, [triangle]) == [triangle]
    assert outlined(tmp_path, [[1, 1], [1, 2, 3, 4], triangle, []]) == [triangle], "points and lines cover nothing"
    assert outlined(tmp_path, []) == outlined(tmp_path, [[1, 1]]) == []


BAD_OUTLINES = [None, "x", 5, [1, 2, 3, 4, 5, 6], [[0, 0, 4, 0, 4]], [[0, 0, 4, 0, 4, "3"]], [[0, 0, 4, 0, 4, NAN]],
                [[0, 0, 4, 0, 4, 1e8]], [None], {}, {"counts": [24]}, {"counts": [24], "size": [6, 4]},
                {"counts": [23], "size": [4, 6]}, {"counts": [25, -1], "size": [4, 6]},
                {"counts": [2**40], "size": [4, 6]},
                {"counts": "x", "size": [4, 6]}, {"counts": "é", "size": [4, 6]}, {"counts": "", "size": [4, 6]},
                {"counts": 24, "size": [4, 6]}, {"counts": [24.0], "size": [4, 6]}]  # fmt: skip


@pytest.mark.parametrize("segmentation", BAD_OUTLINES, ids=str)
def test_outlines_that_crash_pycocotools_are_rejected(segmentation: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        outlined(tmp_path, segmentation)
    assert caught.value.what.startswith("annotation 11: invalid segmentation: ")


def test_outlines_that_are_not_used_are_not_read(tmp_path: Path) -> None:
    coco.read_annotations(written(tmp_path, person(segmentation="x")), segmentations=True)
    coco.read_annotations(written(tmp_path, {**VALID, "annotations": [{**CROWD, "segmentation": "x"}]}))
    path = written(tmp_path, person(bbox=[1, 2, 0, 0]))
    check_invalid(lambda file: coco.read_annotations(file, segmentations=True), path, "bbox")
