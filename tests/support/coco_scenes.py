"""Small COCO data sets, and results that differ from them a little, for the tests of evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

SIDE = 400  # of an image, pixels


def person(random: np.random.Generator, number: int, image: int) -> dict[str, Any]:
    """An annotation of 17 joints spread over a box; some are crowds or have no visible joint."""
    left, top = random.uniform(0, SIDE / 2, 2)
    width, height = random.uniform(20, SIDE / 2, 2)
    places = np.stack([left + width * random.random(17), top + height * random.random(17)], axis=1)
    seen = np.full(17, 2) if random.random() > 0.15 else np.zeros(17, dtype=int)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": int(random.random() < 0.1),
        "area": float(width * height),
        "bbox": [float(left), float(top), float(width), float(height)],
        "num_keypoints": int((seen > 0).sum()),
        "keypoints": np.column_stack([places, seen]).reshape(-1).tolist(),
    }


def scene(seed: int, images: int, people: int) -> dict[str, Any]:
    """The content of an annotation file: images with the ids 10, 20, …, each with 0 to `people` people."""
    random = np.random.default_rng(seed)
    ids = [10 * (i + 1) for i in range(images)]
    annotations: list[dict[str, Any]] = []
    for image in ids:
        for _ in range(random.integers(0, people + 1)):
            annotations.append(person(random, len(annotations) + 1, image))
    return {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": SIDE, "height": SIDE} for i in ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }


def exact(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO results: all people as they are annotated."""
    return [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 1.0}
        for each in dataset["annotations"]
    ]


def results(dataset: dict[str, Any], seed: int, blur: float, digits: int = 15) -> list[dict[str, Any]]:
    """COCO results: most people, `blur` pixels off, some twice; scores have `digits` digits, so that few digits give
    equal scores."""
    random = np.random.default_rng(seed)
    found = []
    for annotation in dataset["annotations"]:
        for _ in range(random.integers(0, 3)):
            joints = np.array(annotation["keypoints"]).reshape(17, 3)
            joints[:, :2] += random.normal(0, blur, (17, 2))
            joints[:, 2] = random.random(17)
            found.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": 1,
                    "keypoints": joints.reshape(-1).tolist(),
                    "score": float(np.round(random.random(), digits)),
                }
            )
    return found
