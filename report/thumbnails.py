"""Small images for the page: a classifier's worst images; for pose, an image with the found people and the same image
with the annotated people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from hrnet.cli import UserError
from hrnet.images import open_image
from hrnet.io.coco import JOINTS
from hrnet.tars import find_source
from postprocess.show import MIN_PERSON_SCORE
from postprocess.tiles import POSE_SIDE, colours, draw_person
from report.page import data_uri

CLASS_SIDE = 160  # long side of a thumbnail, pixels


def read_image(dataset: Optional[Path], source: str) -> Optional[Image.Image]:
    """An image of the data set in RGB; None if it no longer exists."""
    try:
        return open_image(find_source(dataset, source)).convert("RGB") if dataset else None
    except (UserError, OSError):
        return None  # the page reports that it is missing


def thumbnail(dataset: Optional[Path], source: str) -> Optional[str]:
    """A small copy of an image as a data: URI; None if the image no longer exists."""
    image = read_image(dataset, source)
    return data_uri(ImageOps.contain(image, (CLASS_SIDE, CLASS_SIDE))) if image else None


def skeletons(image: Image.Image, people: Sequence[np.ndarray]) -> str:
    """A copy of an image, with a long side of POSE_SIDE pixels and with people drawn on it, as a data: URI. `people`:
    float [17, 3] each: x, y in pixels of `image`, and score."""
    factor = POSE_SIDE / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(small)
    for joints, colour in zip(people, colours(len(people))):
        draw_person(pen, np.column_stack([joints[:, :2] * factor, joints[:, 2]]), colour)
    return data_uri(small)


def found_people(keypoints: Iterable[Mapping[str, Any]]) -> dict[int, list[np.ndarray]]:
    """{image id: the people whose score is above MIN_PERSON_SCORE, float [17, 3] each: x, y in pixels, and score}."""
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for person in keypoints:
        if person["score"] > MIN_PERSON_SCORE:
            people[person["image_id"]].append(np.reshape(person["keypoints"], (JOINTS, 3)))
    return people


def annotated_people(annotations: Iterable[Mapping[str, Any]]) -> dict[int, list[np.ndarray]]:
    """{image id: the annotated people, float64 [17, 3] each: x, y in pixels, and 1 for a labelled joint, else 0}."""
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for person in annotations:
        if person["num_keypoints"] and not person["iscrowd"]:
            joints = np.reshape(person["keypoints"], (JOINTS, 3)).astype(np.float64)
            joints[:, 2] = joints[:, 2] > 0
            people[person["image_id"]].append(joints)
    return people


def pose_pair(
    dataset: Optional[Path], source: str, found: Sequence[np.ndarray], true: Sequence[np.ndarray]
) -> Optional[tuple[str, str]]:
    """Two copies of an image as data: URIs, with the found and with the annotated people; None if the image no longer
    exists."""
    image = read_image(dataset, source)
    return (skeletons(image, found), skeletons(image, true)) if image else None
