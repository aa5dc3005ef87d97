"""Draw the first images of a run into one PNG, with the five most probable classes or with skeletons of people.

    python -m postprocess.show --cfg hrnet_w18 --dataset data/imagenet --output show.png \\
        --predictions build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32/predictions.jsonl

Reads    predictions.jsonl, the images and, for a pose model, keypoints.json beside predictions.jsonl; from the config
         INPUT.CLASS_NAMES
Writes   the PNG --output with one tile per image, in the order of the predictions
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Optional, Union

import numpy as np
from PIL import Image

from hrnet.class_folders import names_of
from hrnet.cli import command, first_few, integer, plural
from hrnet.config import add_cfg_argument, load_config
from hrnet.hints import in_call
from hrnet.images import open_image
from hrnet.io.coco import JOINTS, read_keypoints
from hrnet.io.files import make_folder, replacing
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions
from hrnet.tars import find_source
from postprocess.tiles import Guess, count_people, draw_classes, draw_poses, draw_sheet
from postprocess.topn import class_name

CLASS_COUNT, CLASS_COLUMNS = 24, 6
POSE_COUNT, POSE_COLUMNS = 12, 4
MIN_PERSON_SCORE = 0.1  # only people with a higher score are drawn, and counted by postprocess.predict


def guesses(classes: Sequence[int], probabilities: Sequence[float], names: Sequence[str]) -> list[Guess]:
    """The most probable classes with their names. `names`: as for `class_name`."""
    return [Guess(label, value, class_name(names, label)) for label, value in zip(classes, probabilities)]


def class_tiles(found: list[ClassPrediction], dataset: Path, names: Sequence[str]) -> tuple[list[Image.Image], str]:
    """Draw one tile per image. Returns the tiles and a summary to print."""
    tiles = []
    for each in found:
        best = guesses(each.classes, each.probabilities, names)
        with open_image(find_source(dataset, each.source)) as source:
            tiles.append(draw_classes(source, f"label {class_name(names, each.label)}", each.label, best))
    return tiles, f"Top-1 wrong on {sum(each.rank > 0 for each in found)}"


def pose_tiles(found: list[PosePrediction], keypoints: Path, dataset: Path) -> tuple[list[Image.Image], str]:
    """Draw one tile per image. Returns the tiles and a summary to print."""
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for person in read_keypoints(keypoints):
        if person["score"] > MIN_PERSON_SCORE:
            people[person["image_id"]].append(np.reshape(person["keypoints"], (JOINTS, 3)))
    tiles, drawn = [], 0
    for each in found:
        with open_image(find_source(dataset, each.source)) as source:
            tiles.append(draw_poses(source, Path(each.source).stem, people[each.image_id]))
        drawn += len(people[each.image_id])
    return tiles, f"{count_people(drawn)} with a score above {MIN_PERSON_SCORE}"


def warn_about_newer(found: Sequence[Union[ClassPrediction, PosePrediction]], dataset: Path, predictions: Path) -> None:
    """Warn if drawn images were written after the predictions: preprocessing may have read other images. Members of tar
    files are not checked."""
    written = predictions.stat().st_mtime_ns
    paths = [dataset / each.source for each in found]
    if newer := [path for path in paths if path.is_file() and path.stat().st_mtime_ns > written]:
        what = f"{plural(len(newer), 'image')} newer than the predictions ({first_few(map(str, newer))})"
        again = f"touch {shlex.quote(str(newer[0].parent))}; make show"
        print(f"WARNING: {what}; to compute new ones: {in_call(again, os.environ)}", file=sys.stderr)


def run(cfg: Path, predictions: Path, dataset: Path, output: Path, count: Optional[int]) -> None:
    """Write the PNG. `count`: number of images, by default CLASS_COUNT or POSE_COUNT."""
    config, keypoints = load_config(cfg), predictions.with_name("keypoints.json")
    pose = keypoints.exists()
    found: Sequence[Union[ClassPrediction, PosePrediction]]
    if pose:
        found = people = list(islice(read_predictions(predictions, PosePrediction), count or POSE_COUNT))
        tiles, summary = pose_tiles(people, keypoints, dataset)
    else:
        found = classes = list(islice(read_predictions(predictions, ClassPrediction), count or CLASS_COUNT))
        labelled = ((each.source, each.label) for each in read_predictions(predictions, ClassPrediction))
        names = config.INPUT.CLASS_NAMES or names_of(labelled, config.MODEL.NUM_CLASSES)
        tiles, summary = class_tiles(classes, dataset, names)
    make_folder(output.parent)
    save_sheet(output, tiles, POSE_COLUMNS if pose else CLASS_COLUMNS)
    print(f"wrote {output}: the first {plural(len(tiles), 'image')}, {summary}")
    warn_about_newer(found, dataset, predictions)


def save_sheet(path: Path, tiles: list[Image.Image], columns: int) -> None:
    """Write the tiles as a PNG."""
    with replacing(path) as temporary:
        draw_sheet(tiles, columns).save(temporary, format="PNG")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.show", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.jsonl to read")
    parser.add_argument("--dataset", type=Path, required=True, help="data set that the inputs were made from")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--count", type=integer(1), help=f"number of images ({CLASS_COUNT}; pose: {POSE_COUNT})")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
