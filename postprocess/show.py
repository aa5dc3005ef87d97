"""The first images of a run as one PNG: with their five most probable classes, or with the skeletons of their people.

    python -m postprocess.show --dataset data/imagenet --output show.png
        --predictions build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32/predictions.jsonl

Reads    predictions.jsonl; for a pose model also keypoints.json beside it; the images
Writes   the PNG --output: one tile for each image, in the order of the predictions
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from hrnet.cli import command, integer
from hrnet.images import open_image
from hrnet.io.coco import JOINTS, read_keypoints
from hrnet.io.files import make_folder, replacing
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions
from hrnet.tars import find_source
from postprocess.tiles import Guess, draw_classes, draw_poses, draw_sheet

CLASS_COUNT, CLASS_COLUMNS = 24, 6
POSE_COUNT, POSE_COLUMNS = 12, 4
LEAST_PERSON = 0.1  # only people with a higher score are drawn


def class_tiles(found: list[ClassPrediction], dataset: Path) -> tuple[list[Image.Image], str]:
    """The tiles of these images, and a summary."""
    tiles = []
    for each in found:
        with open_image(find_source(dataset, each.source)) as source:
            tiles.append(draw_classes(source, each.label, list(map(Guess, each.classes, each.probabilities))))
    return tiles, f"Top-1 wrong on {sum(each.rank > 0 for each in found)}"


def pose_tiles(found: list[PosePrediction], keypoints: Path, dataset: Path) -> tuple[list[Image.Image], str]:
    """The tiles of these images, and a summary."""
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for person in read_keypoints(keypoints):
        if person["score"] > LEAST_PERSON:
            people[person["image_id"]].append(np.reshape(person["keypoints"], (JOINTS, 3)))
    tiles, drawn = [], 0
    for each in found:
        with open_image(find_source(dataset, each.source)) as source:
            tiles.append(draw_poses(source, Path(each.source).stem, people[each.image_id]))
        drawn += len(people[each.image_id])
    return tiles, f"{drawn} people with a score above {LEAST_PERSON}"


def run(predictions: Path, dataset: Path, output: Path, count: Optional[int]) -> None:
    """Draw the first images with their results."""
    keypoints = predictions.with_name("keypoints.json")
    pose = keypoints.exists()
    if pose:
        people = list(islice(read_predictions(predictions, PosePrediction), count or POSE_COUNT))
        tiles, summary = pose_tiles(people, keypoints, dataset)
    else:
        classes = list(islice(read_predictions(predictions, ClassPrediction), count or CLASS_COUNT))
        tiles, summary = class_tiles(classes, dataset)
    make_folder(output.parent)
    with replacing(output) as temporary:
        draw_sheet(tiles, POSE_COLUMNS if pose else CLASS_COLUMNS).save(temporary, format="PNG")
    print(f"wrote {output}: the first {len(tiles)} images, {summary}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.show", description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.jsonl of an evaluation")
    parser.add_argument("--dataset", type=Path, required=True, help="the data set that the inputs were made from")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--count", type=integer(1), help=f"how many images ({CLASS_COUNT}; pose: {POSE_COUNT})")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
