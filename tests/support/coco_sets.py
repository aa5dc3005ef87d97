"""Small COCO folders on disk, and a config that goes with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.image_sets import noise

SHORT = 64
GEARS = [[64, 64], [64, 128], [128, 64]]
DECODING = "TEST: {NMS_KERNEL: 5, NMS_PADDING: 2, PROJECT2IMAGE: true}\n"  # the values that pose decoding supports
CONFIG = f"MODEL: {{NAME: pose_higher_hrnet}}\nDATASET: {{INPUT_SIZE: {SHORT}}}\nINPUT: {{GEARS: {GEARS}}}\n"
CONFIG += DECODING
SIZES = {"9.jpg": (70, 60), "10.jpg": (40, 62), "a b.jpg": (64, 64), "wide.jpg": (200, 50)}
FOLDER = "images/val2017"
PERSON = {"id": 1, "name": "person"}


def coco_set(root: Path, sizes: Mapping[str, tuple[int, int]] = SIZES) -> Path:
    """A COCO folder of images of these names and sizes, in reverse order in its annotation file; ids from 100."""
    (root / FOLDER).mkdir(parents=True)
    (root / "annotations").mkdir()
    images = []
    for number, (name, (width, height)) in enumerate(sizes.items()):
        noise(width, height, number).save(root / FOLDER / name, format="PNG" if name.endswith(".png") else "JPEG")
        images.append({"id": 100 + number, "file_name": name, "width": width, "height": height})
    write_annotations(root, {"images": images[::-1], "annotations": [], "categories": [PERSON]})
    return root


def annotations(root: Path) -> Path:
    return root / "annotations/person_keypoints_val2017.json"


def write_annotations(root: Path, content: dict[str, Any]) -> None:
    annotations(root).write_text(json.dumps(content))


def write_config(folder: Path, text: str = CONFIG) -> str:
    (folder / "pose.yaml").write_text(text)
    return str(folder / "pose.yaml")
