"""COCO's files: annotations (images, people) and keypoint results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.io.files import AnyPath, natural_key, write_text
from hrnet.io.records import FormatError, check_unique, read_json

PERSON = 1  # COCO's category
JOINTS = 17
EXPECTED = "COCO's annotations/person_keypoints_<split>.json"


class CocoImage(NamedTuple):
    image_id: int
    file_name: str  # below images/<split>
    width: int  # pixels
    height: int


def annotation_path(dataset: Path, split: str) -> Path:
    """Where a COCO folder keeps the people of a split (val2017)."""
    return dataset / "annotations" / f"person_keypoints_{split}.json"


def read_images(path: AnyPath) -> list[CocoImage]:
    """Read the images of an annotation file, in natural order of their file names; ids and names are unique."""
    listed = _read(path).get("images")
    if not isinstance(listed, list) or not listed:
        raise FormatError("lists no images", where=path, expected="a COCO annotation file")
    images = [_image(entry, number, path) for number, entry in enumerate(listed)]
    for what, values in (("id", (image.image_id for image in images)), ("file", (image.file_name for image in images))):
        check_unique(f"images: duplicate {what}", values, path)
    return sorted(images, key=lambda image: natural_key(image.file_name))


def read_annotations(path: AnyPath, outlines: bool = False) -> dict[str, Any]:
    """Read a keypoint annotation file as pycocotools takes it. `outlines`: each annotation needs a `segmentation` and
    a `bbox` with an area too, as training reads them."""
    content = _read(path)
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content.get(key), list)]
    if missing:
        raise FormatError("not a COCO annotation file", where=path, expected=f"a list {', '.join(missing)}")
    for number, entry in enumerate(content["annotations"]):
        fields = entry if isinstance(entry, dict) else None
        wrong = ("", "an object") if fields is None else _wrong_field(fields, outlines)
        if wrong:
            name, expected = wrong
            at, value = (number, entry) if fields is None else (fields.get("id"), fields.get(name, "nothing"))
            found = f"annotation {at}: {json.dumps(value)[:80]}"
            raise FormatError("not a keypoint annotation file", where=path, expected=expected, found=found)
    return content


def _read(path: AnyPath) -> dict[str, Any]:
    content = read_json(path, "annotation file", expected=EXPECTED, hint="give DATASET=<folder>")
    return content if isinstance(content, dict) else {}


def _image(entry: Any, number: int, path: AnyPath) -> CocoImage:
    entry = entry if isinstance(entry, dict) else {}
    values = [entry.get(key) for key in ("id", "file_name", "width", "height")]
    image_id, name, width, height = values
    counts = all(type(value) is int and value > 0 for value in (width, height))
    if type(image_id) is not int or not isinstance(name, str) or not name or not counts:
        expected = "id, file_name, width and height"
        raise FormatError(f"images: entry {number}", where=path, expected=expected, found=json.dumps(values))
    return CocoImage(image_id, name, width, height)


def _wrong_field(entry: Mapping[str, Any], outlines: bool) -> Optional[tuple[str, str]]:
    """The first field that is missing or of another kind, and what is expected of it; None where all are right."""
    joints, box, outline = entry.get("keypoints"), entry.get("bbox"), entry.get("segmentation")
    is_box = isinstance(box, list) and len(box) == 4
    has_area = is_box and (not entry.get("num_keypoints") or max(entry["bbox"][2:]) > 0)
    checks = {
        "id": ("id", "id" in entry),
        "image_id": ("image_id, an integer", type(entry.get("image_id")) is int),
        "area": ("area", "area" in entry),
        "iscrowd": ("iscrowd, 0 or 1", entry.get("iscrowd") in (0, 1)),
        "num_keypoints": ("num_keypoints, an integer", type(entry.get("num_keypoints")) is int),
        "keypoints": (f"keypoints, {3 * JOINTS} numbers", isinstance(joints, list) and len(joints) == 3 * JOINTS),
        "bbox": ("bbox: x, y, width, height", has_area if outlines else is_box),
        "segmentation": ("segmentation, a list or an object", not outlines or isinstance(outline, (list, dict))),
    }
    return next(((name, expected) for name, (expected, right) in checks.items() if not right), None)


def write_keypoints(path: AnyPath, people: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO keypoint results, a line for each person: `image_id`, `category_id`, `keypoints` (x, y, score of each
    joint, pixels of the image), `score`."""
    lines = [json.dumps(person) for person in people]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_keypoints(path: AnyPath) -> list[dict[str, Any]]:
    """Read COCO keypoint results; each person has an image, 51 finite numbers and a score."""
    people = read_json(path, "keypoints", hint="run make eval")
    if not isinstance(people, list):
        raise FormatError("not a list of people", where=path, found=type(people).__name__)
    for number, person in enumerate(people):
        entry = person if isinstance(person, dict) else {}
        numbers = [*entry["keypoints"], entry.get("score")] if isinstance(entry.get("keypoints"), list) else []
        complete = len(numbers) == 3 * JOINTS + 1 and isinstance(entry.get("image_id"), int)
        if not complete or not all(map(_is_finite, numbers)):
            expected = f"image_id, {3 * JOINTS} keypoints and score, finite numbers"
            raise FormatError(f"person {number}", where=path, expected=expected)
    return people


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
