"""Any edit of an annotation file gives the AP of the unedited file, or is rejected: never another AP, never a crash."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.io import coco
from hrnet.io.records import FormatError
from hrnet.pose.average_precision import evaluate, ground_truth
from tests.support.coco_scenes import results, scene

SCENE = scene(3, 5, 4)
IDS = [image["id"] for image in SCENE["images"]]
PEOPLE = results(SCENE, 1, 6.0)
NOTHING = object()
# Invalid values of any field; an edit also uses the present value as text, and in a list.
WRONG = [
    None,
    True,
    False,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "17",
    [],
    {},
    [[]],
    -1,
    10**30,
    1e308,
    NOTHING,
]
FIELDS = {
    "images": ["id", "width", "height", "file_name"],
    "annotations": ["id", "image_id", "category_id", "area", "iscrowd", "num_keypoints", "keypoints", "bbox"],
    "categories": ["id", "name"],
}
HARMLESS = ["segmentation", "caption", "score", "ignore", "attributes", "date_captured", "license", "_ignore"]


@functools.cache
def unedited() -> list[float]:
    stats: list[float] = evaluate(ground_truth(copy.deepcopy(SCENE)), PEOPLE, IDS).stats.tolist()
    return stats


def entries(content: dict[str, Any], data: st.DataObject) -> tuple[str, list[dict[str, Any]], int]:
    section = data.draw(st.sampled_from(sorted(FIELDS)))
    listed = content[section]
    return section, listed, data.draw(st.integers(0, len(listed) - 1))


def spoil_field(content: dict[str, Any], data: st.DataObject) -> None:
    section, listed, at = entries(content, data)
    name = data.draw(st.sampled_from(FIELDS[section]))
    before = listed[at][name]
    value = data.draw(st.sampled_from([*WRONG, str(before), [before]]))
    if value is NOTHING:
        del listed[at][name]
    elif value != before or type(value) is not type(before):
        listed[at][name] = value


def spoil_number(content: dict[str, Any], data: st.DataObject) -> None:
    """One of the 51 numbers of a person, or of its box."""
    person = data.draw(st.sampled_from(content["annotations"]))
    name = data.draw(st.sampled_from(["keypoints", "bbox"]))
    at = data.draw(st.integers(0, len(person[name]) - 1))
    wrong = [None, float("nan"), float("inf"), "1", [], True]
    person[name][at] = data.draw(st.sampled_from(wrong))


def add_fields(content: dict[str, Any], data: st.DataObject) -> None:
    _, listed, at = entries(content, data)
    values = st.sampled_from([None, 0, "x", [1], {"a": 1}, float("nan")])
    listed[at].update(data.draw(st.dictionaries(st.sampled_from(HARMLESS), values)))
    content.update(data.draw(st.dictionaries(st.sampled_from(["info", "licenses"]), values)))


def reorder(content: dict[str, Any], data: st.DataObject) -> None:
    for section in FIELDS:
        content[section] = data.draw(st.permutations(content[section]))


def renumber(content: dict[str, Any], data: st.DataObject) -> None:
    first, step = data.draw(st.integers(-(2**40), 2**40)), data.draw(st.integers(1, 1000))
    for number, person in enumerate(content["annotations"]):
        person["id"] = first + step * number


def renumber_category(content: dict[str, Any], data: st.DataObject) -> None:
    number = data.draw(st.integers(-5, 100))
    for category in content["categories"]:
        if category["name"] == "person":
            old, category["id"] = category["id"], number
            for person in content["annotations"]:
                person["category_id"] = number if person["category_id"] == old else person["category_id"]


def duplicate(content: dict[str, Any], data: st.DataObject) -> None:
    """Duplicate an entry, as in merged files, with the same id or a new one."""
    _, listed, at = entries(content, data)
    listed.append(copy.deepcopy(listed[at]))
    if data.draw(st.booleans()):
        listed[-1]["id"] = 10**6


def drop_section(content: dict[str, Any], data: st.DataObject) -> None:
    del content[data.draw(st.sampled_from(sorted(FIELDS)))]


def other_entry(content: dict[str, Any], data: st.DataObject) -> None:
    _, listed, at = entries(content, data)
    listed[at] = data.draw(st.sampled_from([None, 1, "x", [], {}]))


EDITS: list[Callable[[dict[str, Any], st.DataObject], None]] = [
    *(spoil_field, spoil_number, add_fields, reorder, renumber, renumber_category, duplicate, drop_section, other_entry)
]


def check(data: st.DataObject) -> None:
    content = copy.deepcopy(SCENE)
    for edit in data.draw(st.lists(st.sampled_from(EDITS), min_size=1, max_size=2)):
        try:
            edit(content, data)
        except (KeyError, TypeError, AttributeError, IndexError):
            break  # the first edit removed what the second one edits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations/person_keypoints_val2017.json")
        path.parent.mkdir()
        path.write_text(json.dumps(content))
        try:
            truth = coco.read_annotations(path).truth()
        except FormatError as error:
            assert error.where == path and "\n" not in str(error)
            return
    if set(IDS) - {image["id"] for image in truth["images"]}:
        return  # evaluation rejects a file without all images of the manifest
    assert evaluate(ground_truth(truth), PEOPLE, IDS).stats.tolist() == unedited()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_edit_gives_the_same_ap_or_is_rejected(data: st.DataObject) -> None:
    check(data)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_thousands_of_edits_give_the_same_ap_or_are_rejected(data: st.DataObject) -> None:
    check(data)
