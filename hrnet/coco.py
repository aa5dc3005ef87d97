"""What a COCO annotation file lists: its images, for stages that do not judge people, or all of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from hrnet.cli import UserError, first_few
from hrnet.files import AnyPath, natural_key
from hrnet.formats import JOINTS
from hrnet.records import FormatError

FIELDS = {"id", "image_id", "area", "bbox", "iscrowd", "num_keypoints", "keypoints"}  # that pycocotools reads


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
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        expected = "COCO's annotations/person_keypoints_<split>.json"
        raise FormatError("no annotation file", where=path, expected=expected, mend="give DATASET=<folder>") from None
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path) from None
    listed = content.get("images") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise FormatError("lists no images", where=path, expected="a COCO annotation file")
    images = [_image(entry, number, path) for number, entry in enumerate(listed)]
    for what, values in (("id", (image.image_id for image in images)), ("file", (image.file_name for image in images))):
        twice = [str(value) for value, count in Counter(values).items() if count > 1]
        if twice:
            raise FormatError(f"images: {what} stands twice", where=path, found=first_few(twice))
    return sorted(images, key=lambda image: natural_key(image.file_name))


def read_annotations(path: Path) -> dict[str, Any]:
    """The content of a COCO keypoint annotation file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such annotations", where=path, mend="give DATASET=<folder>") from None
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path) from None
    told = content if isinstance(content, dict) else {}
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(told.get(key), list)]
    if missing:
        raise FormatError("is no COCO annotation file", where=path, expected=f"a list {', '.join(missing)}")
    for each in told["annotations"]:
        lacking = FIELDS - set(each) if isinstance(each, dict) else FIELDS
        joints = each["keypoints"] if not lacking else []
        if not isinstance(joints, list) or len(joints) != 3 * JOINTS:
            expected = f"{', '.join(sorted(FIELDS))}, {3 * JOINTS} keypoints"
            found = f"annotation {each.get('id') if isinstance(each, dict) else each}"
            raise FormatError("is no keypoint annotation file", where=path, expected=expected, found=found)
    return told


def _image(entry: Any, number: int, path: AnyPath) -> CocoImage:
    told = entry if isinstance(entry, dict) else {}
    values = [told.get(key) for key in ("id", "file_name", "width", "height")]
    image_id, name, width, height = values
    counts = all(type(value) is int and value > 0 for value in (width, height))
    if type(image_id) is not int or not isinstance(name, str) or not name or not counts:
        expected = "id, file_name, width and height"
        raise FormatError(f"images: entry {number}", where=path, expected=expected, found=json.dumps(values))
    return CocoImage(image_id, name, width, height)  # type: ignore[arg-type]
