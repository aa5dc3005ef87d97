"""Torch's own AP on exactly the images of a manifest: the reference that the gate can hold a pose result against.

Reads a config, a checkpoint, a manifest of `preprocess`, and the data set's photographs and annotations; writes a
metrics record, and with --keypoints what was found, as COCO results.

    python -m train.evaluate_pose --cfg configs/higher_hrnet_w32_512.yaml --weights weights/higher_hrnet_w32_512.pth \\
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json --dataset data/coco --flip \\
        --output build/higher_hrnet_w32_512/reference/coco-float32.json

Images are read and aligned as upstream's tools/valid.py does (HRNet/HigherHRNet-Human-Pose-Estimation aa23881,
lib/utils/transforms.py), at the size that upstream gives them and not at a gear: what gears cost is part of the drop.
That arithmetic is shared with no other stage, so that it can witness against them. Decoding is hrnet.pose's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from yacs.config import CfgNode

from hrnet.cli import UserError, command, first_few, progress
from hrnet.config import config_sha256, load_config
from hrnet.io.coco import PERSON, annotation_path, read_annotations, write_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from hrnet.nets import checkpoint, pose
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats
UNIT = 200  # pixels, of upstream's scale
STEP = 64  # pixels, of the long side
PIXEL_MAX = np.float32(255)
AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class View(NamedTuple):
    """What the net sees of a photograph."""

    size: tuple[int, int]  # of its input, width and height
    center: list[float]  # its middle in the photograph, pixels
    scale: list[float]  # width and height of what it shows of the photograph, in UNITs


def view(width: int, height: int, short: int) -> View:
    """Upstream's view of a photograph of `width` x `height` pixels: the short side fits, the long one is filled up to
    the next multiple of STEP."""
    center = [float(int(side / 2 + 0.5)) for side in (width, height)]
    if width < height:
        long = int((short / width * height + STEP - 1) // STEP * STEP)
        return View((short, long), center, [width / UNIT, long / short * width / UNIT])
    long = int((short / height * width + STEP - 1) // STEP * STEP)
    return View((long, short), center, [long / short * height / UNIT, height / UNIT])


def prepare(pixels: np.ndarray, seen: View, config: CfgNode) -> np.ndarray:
    """uint8 RGB pixels [H, W, 3] as the net's input, float32 [1, 3, h, w]: aligned by three points (the middle, a
    point half the width above it, and one as far to the left of that), 0..255 to 0..1, then mean and std."""
    (width, height), (x, y) = seen.size, seen.center
    there = np.array([(x, y), (x, y - seen.scale[0] * UNIT / 2), (0, 0)], np.float32)
    here = np.array([(width / 2, height / 2), (width / 2, height / 2 - width / 2), (0, 0)], np.float32)
    for points in (there, here):
        points[2] = points[1] - (points[0, 1] - points[1, 1], 0)
    aligned = cv2.warpAffine(pixels, cv2.getAffineTransform(there, here), seen.size).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (config.INPUT.MEAN, config.INPUT.STD))
    return np.ascontiguousarray(((aligned / PIXEL_MAX - mean) / std).transpose(2, 0, 1))[None]


def read_pixels(path: Path) -> np.ndarray:
    """The photograph as uint8 RGB [H, W, 3], as it is stored; UserError when it is missing or unreadable."""
    if not path.is_file():
        raise UserError("no such image", where=path, hint="is --dataset the folder that was preprocessed?")
    pixels: Optional[np.ndarray] = cv2.imread(str(path), AS_STORED)
    if pixels is None:
        raise UserError("is no readable image", where=path)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def find_people(
    net: torch.nn.Module, pixels: np.ndarray, config: CfgNode, settings: Settings, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The people of a photograph, uint8 RGB [H, W, 3]: keypoints float [P, 17, 3], x and y in its pixels, and scores
    [P]. `flip`: average with the mirrored photograph's maps."""
    seen = view(pixels.shape[1], pixels.shape[0], config.DATASET.INPUT_SIZE)
    image = torch.from_numpy(prepare(pixels, seen, config))
    with torch.inference_mode():
        outputs = [output.numpy() for output in net(image)]
        flipped = [output.numpy() for output in net(image.flip(3))] if flip else None
    people = decode(outputs, flipped, settings)
    return to_image(people.keypoints, seen.center, seen.scale, seen.size)[:, :, :3], people.scores


def average_precision(
    annotations: dict[str, Any], people: list[dict[str, Any]], image_ids: Sequence[int]
) -> dict[str, Optional[float]]:
    """COCO's ten FIGURES of keypoint results on these images, in percent; None where nothing counts."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' own words
        truth, found = COCO(), COCO()
        truth.dataset = annotations
        truth.createIndex()
        found.dataset = {**annotations, "annotations": []}
        found.createIndex()
        if people:  # which loadRes adds to
            found = truth.loadRes([dict(person) for person in people])
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: 100 * float(value) if value >= 0 else None for name, value in zip(FIGURES, evaluation.stats)}


def run(args: argparse.Namespace) -> None:
    """Evaluate, write the record (and the keypoints before it), print one line."""
    config, manifest = load_config(args.cfg, POSE), Manifest.read(args.manifest)
    settings, config_hash = read_settings(config), config_sha256(config)
    if manifest.config_sha256 != config_hash:
        raise UserError("was made for another config", where=args.manifest, hint=f"run preprocess with {args.cfg}")
    truth = annotation_path(args.dataset, config.DATASET.TEST)
    annotations = read_annotations(truth)
    ids = [image.image_id for image in manifest.images if image.image_id is not None]
    unknown = sorted(set(ids) - {image["id"] for image in annotations["images"]})
    if unknown:
        raise UserError("does not know images of the manifest", where=truth, found=first_few(map(str, unknown)))
    net = pose.build(config).eval()
    weights_hash = checkpoint.load(net, args.weights)
    people: list[dict[str, Any]] = []
    for image in progress(manifest.images, unit="img"):
        for keypoints, score in zip(
            *find_people(net, read_pixels(args.dataset / image.source), config, settings, args.flip)
        ):
            numbers = {"keypoints": keypoints.ravel().tolist(), "score": float(score)}
            people.append({"image_id": image.image_id, "category_id": PERSON, **numbers})
    if args.keypoints:
        make_folder(args.keypoints.parent)
        write_keypoints(args.keypoints, people)
    metrics = average_precision(annotations, people, ids)
    if metrics["AP"] is None:
        found = f"nobody on {len(ids)} images"
        raise UserError("AP needs a person with keypoints", where=truth, found=found, hint="give more images: LIMIT=0")
    make_folder(args.output.parent)
    content = {
        "metrics": metrics,
        "images": len(ids),
        "people": len(people),
        "flip": args.flip,
        "weights_sha256": weights_hash,
        "config_sha256": config_hash,
        "manifest_sha256": sha256_file(args.manifest),
        "tool": f"torch {torch.__version__.split('+')[0]}",
    }
    write_record(args.output, "metrics", content)
    print(f"wrote {args.output} ({len(ids)} images, {len(people)} people, AP {metrics['AP']:.2f}%)")


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.evaluate_pose", description="Torch's AP on a manifest.")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config")
    parser.add_argument("--weights", type=Path, required=True, help="its checkpoint")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of preprocess: which images")
    parser.add_argument("--dataset", type=Path, required=True, help="the data set's folder, with its annotations")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored images' maps")
    parser.add_argument("--output", type=Path, required=True, help="metrics record to write (JSON)")
    parser.add_argument("--keypoints", type=Path, help="also write the people here (JSON)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
