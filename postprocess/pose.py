"""The outputs of a HigherHRNet run -> keypoints of people, COCO's ten AP and AR figures, and the gate's verdict.

    python -m postprocess.pose --cfg higher_hrnet_w32_512 --dataset data/coco
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --run build/higher_hrnet_w32_512/out/coco-float32/onnxruntime-bs1-fp32_run.json
        --run_flip build/higher_hrnet_w32_512/out/coco-float32-flip/onnxruntime-bs1-fp32_run.json
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32.json

Reads    the manifest, COCO's annotations, and the run records with their outputs, or --keypoints with the record of
         `postprocess.decode` beside them
Writes   <output without .json>/keypoints.json and keypoints.decode.json (kept when they are up to date), then the
         metrics record --output; a stamp beside both (hrnet/io/stamp.py)

Only the manifest's images are evaluated. Source: the model zoo's HigherHRNet_postprocess.py, and COCODataset.evaluate
of https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import UserError, command, first_few
from hrnet.config import add_cfg_argument, load_config
from hrnet.io.coco import annotation_path, read_annotations, read_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError, write_record
from hrnet.io.runs import DecodeRecord
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.pose.average_precision import Detections, evaluate, ground_truth, percentages
from hrnet.pose.decode import read_settings
from hrnet.schemas import POSE
from postprocess import decode
from postprocess.checks import check_inputs, check_manifest
from postprocess.gate import add_comparison_arguments, find_reference, judge

METRIC = "AP"


def by_gear(images: list[InputImage], detections: Detections) -> dict[str, dict[str, Any]]:
    """For each gear (height and width, `512x768`): how many images, their AP in percent (None: no person to find)."""
    ids: dict[str, list[int]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.shape):
        assert image.image_id is not None
        ids["x".join(map(str, image.sides()))].append(image.image_id)
    values = {gear: detections.of_images(members) for gear, members in ids.items()}
    return {
        gear: {"images": len(ids[gear]), METRIC: None if np.isnan(value) else 100 * value}
        for gear, value in values.items()
    }


def decode_outputs(args: argparse.Namespace, config: CfgNode) -> Path:
    """Write keypoints.json and its record, unless the same files, settings and code have written them before."""
    keypoints: Path = args.output.with_suffix("") / "keypoints.json"
    files = {"manifest": args.manifest, "run": args.run} | ({"run_flip": args.run_flip} if args.run_flip else {})
    stamp = Stamp.of(["postprocess.decode"], dataclasses.asdict(read_settings(config)), files)
    products = [keypoints, DecodeRecord.path(keypoints)]
    if is_current(keypoints, stamp, products):
        touch(keypoints, products)
    else:
        runs = [run for run in (args.run, args.run_flip) if run is not None]
        decode.run(args.cfg, args.manifest, runs, keypoints, args.workers)
        write_stamp(keypoints, stamp, products)
    return keypoints


def check_people(people: list[dict[str, Any]], decoded: DecodeRecord, manifest: Manifest, where: Path) -> None:
    """Raises FormatError when the keypoints are not those of the manifest's images."""
    if decoded.images != len(manifest.images):
        raise FormatError("images", where=where, expected=len(manifest.images), found=decoded.images)
    foreign = {str(person["image_id"]) for person in people} - {str(image.image_id) for image in manifest.images}
    if foreign:
        raise FormatError("people on images that are not in the manifest", where=where, found=first_few(foreign))


def read_marked(path: Path, ids: list[int]) -> dict[str, Any]:
    """The annotation file, as pycocotools takes it. Raises UserError when one of the images is not in it."""
    annotations = read_annotations(path)
    unknown = sorted(set(ids) - {image.image_id for image in annotations.images})
    if unknown:
        found, hint = first_few(map(str, unknown)), "give the DATASET that the inputs were made from"
        raise UserError("images of the manifest are missing", where=path, found=found, hint=hint)
    return annotations.truth()


def run(args: argparse.Namespace) -> None:
    """Decode the outputs, and write the metrics record, each only if it is not up to date."""
    config, manifest = load_config(args.cfg, POSE), Manifest.read(args.manifest)
    check_manifest(manifest, args.manifest, config, args.cfg)
    manifest_sha256 = sha256_file(args.manifest)
    reference = find_reference(METRIC, args.reference, config, manifest_sha256)
    annotations = annotation_path(args.dataset, config.DATASET.TEST)
    ids = [image.image_id for image in manifest.images if image.image_id is not None]
    dataset = read_marked(annotations, ids)
    keypoints = args.keypoints or decode_outputs(args, config)
    started = time.perf_counter()
    people, decoded = read_keypoints(keypoints), DecodeRecord.read(keypoints)
    check_inputs(decoded.manifest_sha256, keypoints, [manifest_sha256], args.manifest, "run make eval")
    check_people(people, decoded, manifest, keypoints)
    files = {"cfg": args.cfg, "manifest": args.manifest, "keypoints": keypoints}
    files |= {"decode": DecodeRecord.path(keypoints), "annotations": annotations}
    files |= {"reference": args.reference} if args.reference else {}
    stamp = Stamp.of(["postprocess.pose"], {"gate": args.gate}, files)
    if is_current(args.output, stamp, [args.output]):
        touch(args.output, [args.output])
        return

    evaluation = evaluate(ground_truth(dataset), people, ids)
    detections = Detections.of(evaluation)
    if not detections.people.any():
        none, hint = f"none on {len(ids)} images", "give more images: LIMIT=0"
        raise UserError("AP needs a person with keypoints", where=annotations, found=none, hint=hint)
    metrics = percentages(evaluation)
    spent = decoded.seconds.get("infer", 0.0)
    steps = {name: 1000 * seconds / decoded.images for name, seconds in decoded.seconds.items() if name != "infer"}
    gears = by_gear(manifest.images, detections)
    content = {
        "name": args.cfg.stem,
        "metrics": metrics,
        "interval95": {METRIC: [100 * end for end in detections.interval95()]},
        "images": len(ids),
        "people": len(people),
        "gears": gears,
        "counts": {
            "inputs": len(ids),
            "outputs": decoded.images,
            "evaluated": len(evaluation.params.imgIds),
            "rejected": manifest.rejected,
        },
        **judge(METRIC, metrics[METRIC] or 0.0, reference, args.gate),
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
    make_folder(args.output.parent)
    write_record(args.output, "metrics", content)
    write_stamp(args.output, stamp, [args.output])
    seconds = time.perf_counter() - started
    print(f"evaluated {len(people)} people on {len(ids)} images into {args.output} ({seconds:.1f} s)")
    print("  ".join(f"{name} {percent(value)}" for name, value in metrics.items()))
    for gear, found in gears.items():
        print(f"{gear:>9}: {found['images']} images, AP {percent(found[METRIC])}")


def percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.1f}"


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.pose", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run record that infer.run wrote")
    source.add_argument("--keypoints", type=Path, help="keypoints of postprocess.decode or join: only evaluate them")
    parser.add_argument("--run_flip", type=Path, help="that of the flipped images (default: no flip test)")
    parser.add_argument("--dataset", type=Path, required=True, help="COCO folder, for its annotations")
    add_comparison_arguments(parser, "AP")
    decode.add_workers_argument(parser)
    args = parser.parse_args(argv)
    if args.keypoints and args.run_flip:
        parser.error("--run_flip needs --run")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
