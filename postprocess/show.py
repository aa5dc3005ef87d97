"""The first images of a run as one PNG: with their five most probable classes, or with the skeletons of their people.

    python -m postprocess.show --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json --dataset data/imagenet
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json --output show.png
    python -m postprocess.show --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json --dataset data/coco
        --keypoints build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json --output show.png

Reads    the manifest, the images, and the outputs of a classifier's run (--run) or the keypoints (--keypoints)
Writes   the PNG --output: one tile for each image, in the manifest's order
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from hrnet.cli import UserError, command, integer
from hrnet.images import open_image
from hrnet.io.coco import JOINTS, read_keypoints
from hrnet.io.files import make_folder, replacing, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.runs import DecodeRecord, RunRecord, output_folder
from postprocess.checks import check_inputs
from postprocess.logits import read_logits
from postprocess.tiles import Guess, draw_classes, draw_poses, draw_sheet
from postprocess.topn import TOP, label_offset

CLASS_COUNT, CLASS_COLUMNS = 24, 6
POSE_COUNT, POSE_COLUMNS = 12, 4
LEAST_PERSON = 0.1  # only people with a higher score are drawn


def guesses(logits: np.ndarray, offset: int) -> list[Guess]:
    """The most probable classes of float [C], best first, the lower index first among equals. `offset` 1: the first of
    C is a background class, which gets the label -1."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = powers / powers.sum()  # softmax
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    return [Guess(int(index) - offset, float(probabilities[index])) for index in best]


def class_tiles(manifest: Manifest, run: Path, dataset: Path, count: int) -> tuple[list[Image.Image], str]:
    """The tiles of the first `count` images, and a summary."""
    record, folder, hint = RunRecord.read(run), output_folder(run), f"rm {run}; make infer"
    tiles, wrong = [], 0
    for image, label in zip(manifest.images[:count], manifest.labels()):
        if len(record.files.get(image.stem, [])) != 1:
            raise UserError(f"not one output of {image.stem}", where=run, hint=hint)
        logits = read_logits([folder / record.files[image.stem][0]], record.outputs[0].dtype, 0, hint)[0]
        best = guesses(logits, label_offset(logits.size, manifest.classes, run))
        with open_image(dataset / image.source) as source:
            tiles.append(draw_classes(source, label, best))
        wrong += best[0].label != label
    return tiles, f"Top-1 wrong on {wrong}"


def pose_tiles(manifest: Manifest, keypoints: Path, dataset: Path, count: int) -> tuple[list[Image.Image], str]:
    """The tiles of the first `count` images, and a summary."""
    people: dict[Optional[int], list[np.ndarray]] = defaultdict(list)
    for person in read_keypoints(keypoints):
        if person["score"] > LEAST_PERSON:
            people[person["image_id"]].append(np.reshape(person["keypoints"], (JOINTS, 3)))
    tiles, drawn = [], 0
    for image in manifest.images[:count]:
        with open_image(dataset / image.source) as source:
            tiles.append(draw_poses(source, Path(image.source).stem, people[image.image_id]))
        drawn += len(people[image.image_id])
    return tiles, f"{drawn} people with a score above {LEAST_PERSON}"


def run(args: argparse.Namespace) -> None:
    """Draw the first images of the manifest with their results."""
    manifest, hashes = Manifest.read(args.manifest), [sha256_file(args.manifest)]
    if args.run:
        check_inputs(RunRecord.read(args.run).manifest_sha256, args.run, hashes, args.manifest, "run make infer")
        tiles, summary = class_tiles(manifest, args.run, args.dataset, args.count or CLASS_COUNT)
    else:
        inputs = DecodeRecord.read(args.keypoints).manifest_sha256
        check_inputs(inputs, args.keypoints, hashes, args.manifest, "run make eval")
        tiles, summary = pose_tiles(manifest, args.keypoints, args.dataset, args.count or POSE_COUNT)
    make_folder(args.output.parent)
    with replacing(args.output) as temporary:
        draw_sheet(tiles, CLASS_COLUMNS if args.run else POSE_COLUMNS).save(temporary, format="PNG")
    print(f"wrote {args.output}: the first {len(tiles)} of {len(manifest.images)} images, {summary}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.show", description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run record of a classifier")
    source.add_argument("--keypoints", type=Path, help="the keypoints that postprocess.pose wrote")
    parser.add_argument("--dataset", type=Path, required=True, help="the data set that the inputs were made from")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    counts = f"how many images ({CLASS_COUNT}, or {POSE_COUNT} with --keypoints)"
    parser.add_argument("--count", type=integer(1), help=counts)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
