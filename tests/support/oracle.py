"""The outputs of a HigherHRNet without errors, rendered from annotations: decoding must give the annotated people.

Heatmaps are like upstream's training targets at both resolutions (lib/dataset/target_generators of
https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881): a Gaussian of sigma 2 around the joint's
pixel, the maximum where several overlap. Here each Gaussian fills a circle; each of upstream's fills a square. Around
each joint, the tag map holds the person's number times TAG_STEP.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from hrnet.images import affine
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.tensors import write_output
from hrnet.pose.joints import COUNT, FLIPPED

SIGMA = 2  # pixels of each output
TAG_STEP = 5.0  # between people; upstream's TAG_THRESHOLD is 1

People = list[dict[str, Any]]  # COCO annotations of one image
Outputs = tuple[np.ndarray, np.ndarray]  # float32 [1, 34, H/4, W/4] and [1, 17, H/2, W/2]


def marked_people(annotations: Path) -> dict[int, People]:
    """The people of each image that COCO's AP counts: no crowds, and no people without an annotated joint."""
    found: dict[int, People] = defaultdict(list)
    for person in json.loads(annotations.read_text(encoding="utf-8"))["annotations"]:
        if not person["iscrowd"] and person["num_keypoints"]:
            found[person["image_id"]].append(person)
    return found


def render(image: InputImage, people: People) -> Outputs:
    """The outputs for an image of a manifest."""
    height, width = image.sides()
    low, tags = maps(image, people, width // 4, height // 4)
    high, _ = maps(image, people, width // 2, height // 2)
    return np.concatenate([low, tags])[None], high[None]


def maps(image: InputImage, people: People, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and tags, float32 [17, H, W] each, of `width` x `height` pixels."""
    heat, tags = np.zeros((2, COUNT, height, width), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for number, person in enumerate(people, 1):
        for joint, (x, y) in enumerate(positions(image, person, width)):
            if person["keypoints"][3 * joint + 2] == 0 or not (0 <= x < width and 0 <= y < height):
                continue
            away = np.hypot(columns - int(x), rows - int(y))
            bell = np.where(away <= 3 * SIGMA + 1, np.exp(-(away**2) / (2 * SIGMA**2)), 0).astype(np.float32)
            tags[joint][bell > heat[joint]] = number * TAG_STEP
            heat[joint] = np.maximum(heat[joint], bell)
    return heat, tags


def positions(image: InputImage, person: dict[str, Any], width: int) -> np.ndarray:
    """The positions of a person's joints on a map of `width` pixels, float64 [17, 2]."""
    assert image.center is not None and image.scale is not None
    input_height, input_width = image.sides()
    joints = np.array(person["keypoints"], np.float64).reshape(COUNT, 3)
    matrix = affine(image.center, image.scale, (input_width, input_height))
    found: np.ndarray = (np.c_[joints[:, :2], np.ones(COUNT)] @ matrix.T) * (width / input_width)
    return found


def flip(outputs: Outputs) -> Outputs:
    """The outputs for the flipped image: flipped maps, left and right joints exchanged."""
    low, high = outputs
    swap = [*FLIPPED, *(COUNT + joint for joint in FLIPPED)]
    return low[:, swap, :, ::-1], high[:, FLIPPED, :, ::-1]


def write_outputs(manifest: Manifest, annotations: Path, folder: Path) -> dict[str, list[str]]:
    """Write the outputs of all images of a manifest, flipped if it is of flipped images, as infer does; returns the
    file names of each stem, for a run record."""
    people = marked_people(annotations)
    files = {}
    for image in manifest.images:
        assert image.image_id is not None
        outputs = render(image, people.get(image.image_id, []))
        files[image.stem] = [f"{image.stem}_{k}.npy" for k in range(2)]
        for name, output in zip(files[image.stem], flip(outputs) if manifest.flipped else outputs):
            write_output(folder / name, output)
    return files
