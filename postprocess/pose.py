"""Keypoints of people -> COCO's ten AP and AR figures, and a metrics record with the gate's verdict.

    python -m postprocess.pose --cfg configs/higher_hrnet_w32_512.yaml
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --annotations data/coco/annotations/person_keypoints_val2017.json
        --keypoints build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32.json

Reads    the manifest, COCO's annotations, and the keypoints with the record beside them that postprocess.decode left
Writes   the metrics record --output

Only the manifest's images count. Source: the seed's HigherHRNet_postprocess.py, and upstream's COCODataset.evaluate
(https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881).
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.cli import UserError, command, first_few
from hrnet.config import config_sha256, load_config
from hrnet.io.coco import read_annotations, read_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError, write_record
from hrnet.io.runs import DecodeRecord
from hrnet.pose.average_precision import FIGURES, Detections, evaluate, ground_truth
from hrnet.schemas import POSE
from postprocess.gate import find_reference, judge, points

METRIC = "AP"


def by_gear(images: list[InputImage], detections: Detections) -> dict[str, dict[str, Any]]:
    """Of each gear (height and width, `512x768`): how many images, their AP in percent (None: nobody to be found)."""
    ids: dict[str, list[int]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.shape):
        assert image.image_id is not None
        ids["x".join(map(str, image.sides()))].append(image.image_id)
    told = {}
    for gear, members in ids.items():
        value = detections.of_images(members)
        told[gear] = {"images": len(members), METRIC: None if np.isnan(value) else 100 * value}
    return told


def check_joint(
    args: argparse.Namespace, manifest: Manifest, decoded: DecodeRecord, people: list[dict[str, Any]]
) -> None:
    """Config, inputs and keypoints must speak of one model and of the same images."""
    if manifest.config_sha256 != config_sha256(load_config(args.cfg, POSE)):
        raise UserError(f"was made for another config than {args.cfg}", where=args.manifest, hint="run make preprocess")
    if decoded.manifest_sha256 != sha256_file(args.manifest):
        expected = f"those of {args.manifest}"
        raise UserError("was decoded from other inputs", where=args.keypoints, expected=expected, hint="run make eval")
    if decoded.images != len(manifest.images):
        raise FormatError("images", where=args.keypoints, expected=len(manifest.images), found=decoded.images)
    foreign = {str(person["image_id"]) for person in people} - {str(image.image_id) for image in manifest.images}
    if foreign:
        raise FormatError(
            "people of images that are not in the manifest", where=args.keypoints, found=first_few(foreign)
        )


def run(args: argparse.Namespace) -> None:
    """Write the metrics record."""
    started = time.perf_counter()
    config, manifest = load_config(args.cfg, POSE), Manifest.read(args.manifest)
    people, decoded = read_keypoints(args.keypoints), DecodeRecord.read(args.keypoints)
    check_joint(args, manifest, decoded, people)
    held = find_reference(METRIC, args.reference, config, decoded.manifest_sha256)
    dataset = read_annotations(args.annotations)
    ids = [image.image_id for image in manifest.images if image.image_id is not None]
    unknown = sorted(set(ids) - {image["id"] for image in dataset["images"]})
    if unknown:
        hint = "give the annotations of the same data set"
        raise UserError(
            "does not know images of the manifest",
            where=args.annotations,
            found=first_few(map(str, unknown)),
            hint=hint,
        )

    evaluation = evaluate(ground_truth(dataset), people, ids)
    detections = Detections.of(evaluation)
    if not detections.people.any():
        found = f"nobody on {len(ids)} images"
        raise UserError(
            "AP needs a person with keypoints", where=args.annotations, found=found, hint="give more images: LIMIT=0"
        )
    metrics = {name: 100 * float(value) if value >= 0 else None for name, value in zip(FIGURES, evaluation.stats)}
    spent = decoded.seconds.get("infer", 0.0)
    steps = {name: 1000 * seconds / decoded.images for name, seconds in decoded.seconds.items() if name != "infer"}
    make_folder(args.output.parent)
    content = {
        "name": args.cfg.stem,
        "metrics": metrics,
        "interval95": {METRIC: [100 * end for end in detections.interval95()]},
        "images": len(ids),
        "people": len(people),
        "gears": by_gear(manifest.images, detections),
        "counts": {
            "inputs": len(ids),
            "outputs": decoded.images,
            "evaluated": len(evaluation.params.imgIds),
            "rejected": manifest.rejected,
        },
        **judge(METRIC, metrics[METRIC] or 0.0, held, args.gate),
        "evaluated": {
            "manifest_sha256": decoded.manifest_sha256,
            "keypoints_sha256": decoded.keypoints_sha256,
            "model_sha256": decoded.model_sha256,
        },
        "model": decoded.metadata,
        "tool": decoded.tool,
        "flip": decoded.flip,
        "images_per_second": {"infer end to end": decoded.inferred / spent if spent else None},
        "decode_milliseconds_an_image": steps,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    write_record(args.output, "metrics", content)
    seconds = time.perf_counter() - started
    print(f"evaluated {len(people)} people on {len(ids)} images into {args.output} ({seconds:.1f} s)")
    print("  ".join(f"{name} {'-' if value is None else f'{value:.1f}'}" for name, value in metrics.items()))
    for gear, told in content["gears"].items():
        print(f"{gear:>9}: {told['images']} images, AP {'-' if told[METRIC] is None else f'{told[METRIC]:.1f}'}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.pose", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True, help="person_keypoints_val2017.json")
    parser.add_argument("--keypoints", type=Path, required=True, help="the people that postprocess.decode found")
    parser.add_argument("--output", type=Path, required=True, help="the metrics record to write")
    parser.add_argument("--reference", type=Path, help="a metrics record to be held against (default: the config's)")
    parser.add_argument("--gate", type=points, default=1.0, help="allowed drop of AP in points of percent")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
