"""Compute PyTorch's AP on the images of a manifest: the reference for the gate.

    python -m train.pose.reference --cfg higher_hrnet_w32_512 --weights weights/higher_hrnet_w32_512.pth \\
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json --dataset data/coco --flip 1 \\
        --output build/higher_hrnet_w32_512/reference/coco-float32.json

Reads   a config, a checkpoint, a manifest of `preprocess`, the data set's images and annotations; with --inputs the
        prepared inputs beside the manifest instead of the images
Writes  a metrics record, and with --keypoints the people as COCO results

Images are read and aligned as in upstream's tools/valid.py (HRNet/HigherHRNet-Human-Pose-Estimation aa23881,
lib/utils/transforms.py), at upstream's input size instead of a gear, so that the measured drop includes the effect of
gears. This code is separate from the preprocess stage, so that it is an independent check. hrnet.pose decodes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, command, first_few, integer, plural, progress
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.inputs import planes, read_input
from hrnet.io.coco import PERSON, annotation_path, read_annotations, write_keypoints
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.reference import write_reference
from hrnet.io.stamp import Stamp, is_current, tensors_state, touch
from hrnet.nets import checkpoint, pose
from hrnet.pose.average_precision import evaluate, ground_truth, percentages
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE

UNIT = 200  # pixels: the unit of upstream's scale
STEP = 64  # pixels; the long side is a multiple of it
MODULE = "train.pose.reference"
PIXEL_MAX = np.float32(255)
IMREAD_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class View(NamedTuple):
    """The area of an image that becomes the network's input."""

    size: tuple[int, int]  # width and height of the input
    center: list[float]  # of the area, image pixels
    scale: list[float]  # width and height of the area, in UNITs


def view(width: int, height: int, short: int) -> View:
    """Upstream's view of an image of `width` x `height` pixels: the short side becomes `short`, the long side is padded
    to a multiple of STEP."""
    center = [float(int(side / 2 + 0.5)) for side in (width, height)]
    if width < height:
        long = int((short / width * height + STEP - 1) // STEP * STEP)
        return View((short, long), center, [width / UNIT, long / short * width / UNIT])
    long = int((short / height * width + STEP - 1) // STEP * STEP)
    return View((long, short), center, [long / short * height / UNIT, height / UNIT])


def prepare(pixels: np.ndarray, area: View, config: CfgNode) -> np.ndarray:
    """Convert uint8 RGB pixels [H, W, 3] to the network's input, float32 [1, 3, h, w]: align three points (the centre,
    the point half a width above it, and the point half a width to the left of that), scale 0..255 to 0..1, subtract the
    mean and divide by std."""
    (width, height), (x, y) = area.size, area.center
    source = np.array([(x, y), (x, y - area.scale[0] * UNIT / 2), (0, 0)], np.float32)
    target = np.array([(width / 2, height / 2), (width / 2, height / 2 - width / 2), (0, 0)], np.float32)
    for points in (source, target):
        points[2] = points[1] - (points[0, 1] - points[1, 1], 0)
    aligned = cv2.warpAffine(pixels, cv2.getAffineTransform(source, target), area.size).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (config.INPUT.MEAN, config.INPUT.STD))
    return np.ascontiguousarray(((aligned / PIXEL_MAX - mean) / std).transpose(2, 0, 1))[None]


def read_pixels(path: Path) -> np.ndarray:
    """Read an image as uint8 RGB [H, W, 3], as stored. Raises UserError if it is missing or unreadable."""
    if not path.is_file():
        raise UserError("no such image", where=path, hint="--dataset must be the directory that was preprocessed")
    pixels: Optional[np.ndarray] = cv2.imread(str(path), IMREAD_FLAGS)
    if pixels is None:
        raise UserError("not a readable image", where=path, hint="fix or remove it")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def find_people(
    net: torch.nn.Module, pixels: np.ndarray, config: CfgNode, settings: Settings, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Find the people in an image, uint8 RGB [H, W, 3]: keypoints float [P, 17, 3] with x and y in image pixels, and
    scores [P]. `flip`: average with the maps of the flipped image."""
    area = view(pixels.shape[1], pixels.shape[0], config.DATASET.INPUT_SIZE)
    return people_of(net, prepare(pixels, area, config), area, settings, flip)


def people_of(
    net: torch.nn.Module, values: np.ndarray, area: View, settings: Settings, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`find_people` for the network's input of an image, float32 [1, 3, h, w], which shows this area of the image."""
    image = torch.from_numpy(values)
    with torch.inference_mode():
        outputs = [output.numpy() for output in net(image)]
        flipped = [output.numpy() for output in net(image.flip(3))] if flip else None
    people = decode(outputs, flipped, settings)
    return to_image(people.keypoints, area.center, area.scale, area.size)[:, :, :3], people.scores


def run(args: argparse.Namespace) -> None:
    """Evaluate, write the record (and the keypoints before it), print one line."""
    config, manifest = load_config(args.cfg, POSE), Manifest.read(args.manifest)
    settings, config_hash = read_settings(config), config_sha256(config)
    if manifest.config_sha256 != config_hash:
        raise UserError(
            "preprocessed with a different config", where=args.manifest, hint=f"run preprocess with {args.cfg}"
        )
    annotation_file = annotation_path(args.dataset, config.DATASET.TEST)
    annotations = read_annotations(annotation_file)
    ids = [image.image_id for image in manifest.images if image.image_id is not None]
    unknown = sorted(set(ids) - {image.image_id for image in annotations.images})
    if unknown:
        found = first_few(map(str, unknown))
        raise UserError("images of the manifest are missing in the annotations", where=annotation_file, found=found)
    net = pose.build(config).eval()
    checkpoint.load(net, args.weights)
    used = {
        "config_sha256": config_hash,
        "TEST, MAX_NUM_PEOPLE": [config.TEST.dump(), config.DATASET.MAX_NUM_PEOPLE],
        "dataset": str(args.dataset),
        "torch": torch.__version__,
        "flip": args.flip,
        "inputs_state": tensors_state(args.manifest.parent) if args.inputs else None,
    }
    files = {"weights": args.weights, "manifest": args.manifest, "annotations": annotation_file}
    stamp = Stamp.compute([MODULE], used, files)
    products = [*([args.keypoints] if args.keypoints else []), args.output]
    if is_current(args.output, stamp, products):
        touch(args.output, products)
        return
    people: list[dict[str, Any]] = []
    for image in progress(manifest.images, unit="images"):
        if args.inputs:
            values, (height, width) = planes(read_input(args.manifest.parent, image, manifest), config), image.sides()
            area = View((width, height), image.center or [], image.scale or [])
            seen = people_of(net, values, area, settings, bool(args.flip))
        else:
            seen = find_people(net, read_pixels(args.dataset / image.source), config, settings, bool(args.flip))
        for keypoints, score in zip(*seen):
            numbers = {"keypoints": keypoints.ravel().tolist(), "score": float(score)}
            people.append({"image_id": image.image_id, "category_id": PERSON, **numbers})
    if args.keypoints:
        make_folder(args.keypoints.parent)
        write_keypoints(args.keypoints, people)
    metrics = percentages(evaluate(ground_truth(annotations.truth()), people, ids))
    if metrics["AP"] is None and manifest.shard is None:  # a part may have no person
        what, found = "AP needs a person with keypoints", f"no person in {plural(len(ids), 'image')}"
        raise UserError(what, where=annotation_file, found=found, hint="give more images: LIMIT=0")
    figures = {
        "metrics": metrics,
        "images": len(ids),
        "people": len(people),
        "flip": bool(args.flip),
    }
    write_reference(products, figures, manifest, stamp, "weights", f"torch {torch.__version__.split('+')[0]}")
    found = "-" if metrics["AP"] is None else f"{metrics['AP']:.2f}%"
    print(f"wrote {args.output} ({plural(len(ids), 'image')}, {plural(len(people), 'person', 'people')}, AP {found})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.pose.reference", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--weights", type=Path, required=True, help="the model's checkpoint")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the preprocessed images")
    parser.add_argument("--dataset", type=Path, required=True, help="the data set's directory, with its annotations")
    parser.add_argument(
        "--flip", type=integer(0, 1), default=0, help="1: average with the maps of the flipped images (%(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="metrics record to write (JSON)")
    parser.add_argument("--inputs", action="store_true", help="use the prepared inputs instead of the images")
    parser.add_argument("--keypoints", type=Path, help="also write the people here (JSON)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
