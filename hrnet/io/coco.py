"""COCO files: annotations (images, people) and keypoint results.

All annotation files are read and checked here: ids, types, finite numbers, sizes, joints, areas. pycocotools does not
check them: an id of 0, or a NaN in an area, changes AP without an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.cli import first_few
from hrnet.io.files import AnyPath, natural_key, relative_path, write_text
from hrnet.io.records import FormatError, check_unique, read_json
from hrnet.io.segmentation import is_number, read_segmentation

PERSON = 1  # COCO's id of the category
PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
NAMES = ("nose", *(f"{side}_{part}" for part in PARTS for side in ("left", "right")))  # of joints
JOINTS = len(NAMES)
PREFIX, SUFFIX = "person_keypoints_", ".json"
EXPECTED = "COCO's annotations/person_keypoints_<split>.json"
COPY_AGAIN = "copy or download the file again, or give another DATASET=<directory>"
ID_LIMIT = 2**63  # an id must be below it to fit into int64
LARGEST_SIDE = 10**6  # pixels
MAX_AREA = 4  # largest area of a person / area of the image; above 1, since a person may extend beyond the image
MAX_BOX = 1000  # largest area of a person's box (the smaller of `bbox` and its joints' box) / area of the person


class CocoImage(NamedTuple):
    image_id: int
    file_name: str  # below images/<split>
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Annotations:
    """The checked content of an annotation file."""

    images: list[CocoImage]  # in natural order of their unique file names; ids are unique
    people: list[dict[str, Any]]  # the person annotations; only segmentations read for training are changed

    def truth(self) -> dict[str, Any]:
        """The content that pycocotools needs. People get new ids from 1, since it reads an id of 0 as "no match"."""
        fields = ("image_id", "iscrowd", "area", "bbox", "num_keypoints", "keypoints")
        return {
            "images": [{"id": image.image_id, "width": image.width, "height": image.height} for image in self.images],
            "categories": [{"id": PERSON, "name": "person"}],
            "annotations": [
                {"id": number, "category_id": PERSON, **{name: person[name] for name in fields}}
                for number, person in enumerate(self.people, 1)
            ],
        }


def annotation_path(dataset: Path, split: str) -> Path:
    """The annotation file of a split (such as val2017) in a COCO directory."""
    return dataset / "annotations" / f"{PREFIX}{split}{SUFFIX}"


def read_annotations(path: AnyPath, segmentations: bool = False) -> Annotations:
    """Read and check a keypoint annotation file. Raises FormatError with the id of the image or annotation.

    `segmentations`: for training. People with joints then need a `bbox` whose width or height is above 0. People
    without joints, and crowds, need a `segmentation`, which is returned in a form that pycocotools accepts.
    """
    content = read_json(path, "annotation file", expected=EXPECTED, hint=COPY_AGAIN)
    found = first_few(sorted(content), 5) if isinstance(content, dict) and content else _as_json(content)
    content = content if isinstance(content, dict) else {}
    missing = [name for name in ("images", "annotations", "categories") if not isinstance(content.get(name), list)]
    if missing:
        expected = f"a list in {', '.join(missing)}"
        raise FormatError("not a COCO annotation file", where=path, expected=expected, found=found, hint=COPY_AGAIN)
    images = _read_images(content["images"], path)
    person, others = _person_category(content["categories"], path)
    sizes = {image.image_id: image for image in images}
    people = []
    for number, entry in enumerate(content["annotations"]):
        if not isinstance(entry, dict):
            raise FormatError(
                f"annotations: invalid entry {number}", where=path, expected="an object", found=_as_json(entry)
            )
        if not _is_id(entry.get("category_id")):
            raise _annotation_error(entry, number, "category_id", "the id of a category", path)
        if entry["category_id"] in others:
            continue
        if entry["category_id"] != person:
            raise _annotation_error(
                entry, number, "category_id", f"{person} (person) or another category of the file", path
            )
        wrong = _find_wrong_field(entry, sizes, segmentations)
        if wrong:
            raise _annotation_error(entry, number, *wrong, path)
        people.append({**entry, "segmentation": _segmentation(entry, sizes, path)} if segmentations else entry)
    check_unique("annotations: duplicate id", (entry["id"] for entry in people), path)
    if not segmentations:  # a duplicate changes AP, but does not matter in training
        _check_duplicate_people(people, path)
    return Annotations(images, people)


def _check_duplicate_people(people: list[dict[str, Any]], path: AnyPath) -> None:
    """Raise FormatError if the joints and box of a person occur twice, for example after two files were merged."""
    seen: dict[tuple[Any, ...], Any] = {}
    for entry in people:
        key = (entry["image_id"], *entry["keypoints"], *entry["bbox"])
        if key in seen:
            found = f"annotation {seen[key]} and annotation {entry['id']}, on image {entry['image_id']}"
            raise FormatError("duplicate person", where=path, found=found)
        seen[key] = entry["id"]


def _read_images(listed: list[Any], path: AnyPath) -> list[CocoImage]:
    if not listed:
        raise FormatError("no images", where=path, expected="a COCO annotation file")
    annotations = Path(path).absolute()
    folder = annotations.parent.parent / "images" / annotations.stem.removeprefix(PREFIX)
    images = [_image(entry, number, folder, path) for number, entry in enumerate(listed)]
    for what, values in (("id", (image.image_id for image in images)), ("file", (image.file_name for image in images))):
        check_unique(f"images: duplicate {what}", values, path)
    return sorted(images, key=lambda image: natural_key(image.file_name))


def _image(entry: Any, number: int, folder: Path, path: AnyPath) -> CocoImage:
    entry = entry if isinstance(entry, dict) else {}
    values = [entry.get(key) for key in ("id", "file_name", "width", "height")]
    image_id, name, width, height = values
    sides = all(type(value) is int and 0 < value <= LARGEST_SIDE for value in (width, height))
    if not _is_id(image_id) or not isinstance(name, str) or not name or not sides:
        expected = "integers for id, width and height, text for file_name"
        raise FormatError(f"images: invalid entry {number}", where=path, expected=expected, found=_as_json(values))
    try:
        return CocoImage(image_id, relative_path(folder, name), width, height)
    except ValueError as error:
        expected = f"a path below {folder}"
        raise FormatError(f"image {image_id}: {error}", where=path, expected=expected, found=_as_json(name)) from None


def _person_category(categories: list[Any], path: AnyPath) -> tuple[int, set[int]]:
    """The id of the category `person`, and the ids of the other categories."""
    entries = [entry if isinstance(entry, dict) else {} for entry in categories]
    if not all(_is_id(entry.get("id")) and isinstance(entry.get("name"), str) for entry in entries):
        raise FormatError("invalid categories", where=path, expected="ids and names", found=_as_json(categories))
    check_unique("categories: duplicate id", (entry["id"] for entry in entries), path)
    people = [entry for entry in entries if entry["name"] == "person"]
    if len(people) != 1:
        found = first_few(_as_json(entry["name"]) for entry in entries) or "none"
        raise FormatError("wrong categories", where=path, expected='exactly one named "person"', found=found)
    joints = people[0].get("keypoints", list(NAMES))
    expected = f"COCO's {JOINTS} joints, {NAMES[0]} to {NAMES[-1]}"
    if not isinstance(joints, list) or len(joints) != JOINTS:
        found = f"{len(joints)} joints" if isinstance(joints, list) else _as_json(joints)
        raise FormatError("category person: invalid keypoints", where=path, expected=expected, found=found)
    if joints != list(NAMES) and sorted(map(str, joints)) == sorted(NAMES):
        raise FormatError("category person: keypoints in the wrong order", where=path, expected=expected)
    return people[0]["id"], {entry["id"] for entry in entries} - {people[0]["id"]}


def _find_wrong_field(
    entry: Mapping[str, Any], images: Mapping[int, CocoImage], segmentations: bool
) -> Optional[tuple[str, str]]:
    """The first field of a person's annotation that is missing or invalid, and what is expected."""
    joints, box, count = (entry.get(name) for name in ("keypoints", "bbox", "num_keypoints"))
    area: Any = entry.get("area")
    if not _is_id(entry.get("id")):
        return "id", "an integer"
    if not _is_id(entry.get("image_id")):
        return "image_id", "an integer"
    if entry["image_id"] not in images:
        return "image_id", "the id of an image in the file"
    if type(entry.get("iscrowd")) is not int or entry["iscrowd"] not in (0, 1):
        return "iscrowd", "0 or 1"
    if not isinstance(joints, list) or len(joints) != 3 * JOINTS or not all(map(is_number, joints)):
        return "keypoints", f"{3 * JOINTS} finite numbers, x, y and visibility of COCO's {JOINTS} joints"
    if not all(flag in (0, 1, 2) for flag in joints[2::3]):
        return "keypoints", "a visibility of 0, 1 or 2 for each joint"
    labelled = [(x, y) for x, y, flag in zip(joints[::3], joints[1::3], joints[2::3]) if flag]
    if type(count) is not int or count != len(labelled):
        return "num_keypoints", f"{len(labelled)}, the joints whose visibility is not 0"
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) < 0:
        return "bbox", "x, y, width, height: finite numbers, width and height from 0"
    if segmentations and labelled and max(box[2:]) <= 0:
        return "bbox", "a width or height above 0"
    least, most = _area_bounds(labelled, box, images[entry["image_id"]])
    if not is_number(area, math.inf) or not least <= area <= most or (labelled and area <= 0):
        above_0 = labelled and least <= 0
        return "area", f"above 0, up to {most:.0f} pixels" if above_0 else f"{least:.3g} to {most:.0f} pixels"
    return None


def _area_bounds(labelled: list[tuple[float, float]], box: list[float], image: CocoImage) -> tuple[float, float]:
    """Minimum and maximum plausible area of a person in pixels, from its labelled joints, its box and its image."""
    most = MAX_AREA * image.width * image.height
    if not labelled:
        return 0, most
    across, down = zip(*labelled)
    boxes = [box[2] * box[3], (max(across) - min(across)) * (max(down) - min(down))]
    return min((pixels for pixels in boxes if pixels > 0), default=0) / MAX_BOX, most


def _segmentation(entry: Mapping[str, Any], images: Mapping[int, CocoImage], path: AnyPath) -> Any:
    """The segmentation of a person. It is only checked where training uses it: for crowds and people without joints."""
    if entry["num_keypoints"] and not entry["iscrowd"]:
        return entry.get("segmentation")
    image = images[entry["image_id"]]
    try:
        return read_segmentation(entry.get("segmentation"), image.width, image.height)
    except ValueError as error:
        expected = "polygons or run lengths"
        what, found = f"annotation {entry['id']}: invalid segmentation: {error}", _as_json(entry.get("segmentation"))
        raise FormatError(what, where=path, expected=expected, found=found) from None


def _annotation_error(entry: Mapping[str, Any], number: int, name: str, expected: str, path: AnyPath) -> FormatError:
    at = entry["id"] if _is_id(entry.get("id")) else f"number {number}"
    value = _as_json(entry[name]) if name in entry else "nothing"
    if name == "keypoints" and isinstance(entry.get(name), list) and len(entry[name]) != 3 * JOINTS:
        value = f"{len(entry[name])} numbers"
    return FormatError(f"annotation {at}: invalid {name}", where=path, expected=expected, found=value)


def _is_id(value: object) -> bool:
    return type(value) is int and -ID_LIMIT <= value < ID_LIMIT


def _as_json(value: object) -> str:
    return json.dumps(value)[:80]


def write_keypoints(path: AnyPath, people: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO keypoint results, one line for each person: `image_id`, `category_id`, `keypoints` (x, y, score of
    each joint, pixels of the image), `score`."""
    lines = [json.dumps(person) for person in people]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_keypoints(path: AnyPath) -> list[dict[str, Any]]:
    """Read COCO keypoint results. Raises FormatError unless each has `image_id`, 51 finite numbers and a score."""
    people = read_json(path, "keypoints", hint="run make eval")
    if not isinstance(people, list):
        raise FormatError("not a list of people", where=path, found=type(people).__name__)
    for number, person in enumerate(people):
        entry = person if isinstance(person, dict) else {}
        numbers = [*entry["keypoints"], entry.get("score")] if isinstance(entry.get("keypoints"), list) else []
        complete = len(numbers) == 3 * JOINTS + 1 and isinstance(entry.get("image_id"), int)
        if not complete or not all(map(_is_finite, numbers)):
            expected = f"image_id, {3 * JOINTS} keypoints and score, finite numbers"
            raise FormatError(f"invalid person {number}", where=path, expected=expected)
    return people


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
