"""The outputs of a HigherHRNet run, and of the flipped images' run -> the people on each image.

    python -m postprocess.decode --cfg higher_hrnet_w32_512
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --dump_dir build/higher_hrnet_w32_512/out/coco-float32/onnxruntime-bs1-fp32
        --dump_dir_flip build/higher_hrnet_w32_512/out/coco-float32-flip/onnxruntime-bs1-fp32
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json

Reads    the manifest, the outputs, and the run records beside their directories (`<directory>_run.json`)
Writes   COCO keypoint results, then the record beside them (DecodeRecord)

Source: the model zoo's HigherHRNet_postprocess.py, whose flags --dump_dir and --dump_dir_flip these are. The decoding
itself is in hrnet/pose. `postprocess.pose` decodes and evaluates.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np

from hrnet.cli import UserError, command, cores, integer
from hrnet.config import add_cfg_argument, load_config
from hrnet.io import tensors
from hrnet.io.coco import JOINTS, PERSON, write_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError
from hrnet.io.runs import DecodeRecord, RunRecord, output_folder
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE
from hrnet.workers import map_files
from postprocess.checks import check_inputs, check_manifest, check_run


class Task(NamedTuple):
    image: InputImage
    outputs: list[list[Path]]  # of the image, in the model's order; then, for the flip test, those of the flipped image


def read_outputs(files: list[Path], shape: tuple[int, int], hint: str) -> list[np.ndarray]:
    """output1 [1, 34, H/4, W/4] and output2 [1, 17, H/2, W/2] of an input of `shape` H x W."""
    height, width = shape
    expected = [(1, 2 * JOINTS, height // 4, width // 4), (1, JOINTS, height // 2, width // 2)]
    outputs = [tensors.read_output(file, hint=hint) for file in files]
    for file, output, size in zip(files, outputs, expected):
        if output.shape != size:
            raise FormatError("shape", where=file, expected=list(size), found=list(output.shape), hint=hint)
    return [np.asarray(output, dtype=np.float32) for output in outputs]


def coco_results(image: InputImage, keypoints: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """keypoints [P, 17, 3] (x, y in pixels of the source image, score) and scores of the people [P] as COCO results."""
    return [
        {
            "image_id": image.image_id,
            "category_id": PERSON,
            "keypoints": [float(value) for value in person.reshape(-1)],
            "score": float(score),
        }
        for person, score in zip(keypoints[:, :, :3], scores)
    ]


def find_people(task: Task, settings: Settings, hint: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The people in the outputs of one image, as COCO results, and the milliseconds of each step."""
    image = task.image
    height, width = image.sides()
    begun = time.perf_counter()
    passes = [read_outputs(files, (height, width), hint) for files in task.outputs]
    milliseconds = {"read": 1000 * (time.perf_counter() - begun)}
    try:
        people = decode(passes[0], passes[1] if len(passes) > 1 else None, settings, milliseconds)
    except UserError as error:
        raise UserError(str(error), where=task.outputs[0][0].parent / image.stem) from None
    assert image.center is not None and image.scale is not None
    keypoints = to_image(people.keypoints, image.center, image.scale, (width, height))
    return coco_results(image, keypoints, people.scores), milliseconds


def read_runs(cfg: Path, path: Path, manifest: Manifest, runs: list[Path]) -> list[RunRecord]:
    """The records of the run and of the flipped images' run, if any. Raises UserError when they, the config and the
    manifest at `path` do not describe one model and the same images."""
    records = [RunRecord.read(run) for run in runs]
    if len({record.model_sha256 for record in records}) > 1:
        raise UserError("made by another model than the other run", where=runs[1], hint="run make infer")
    hashes = (manifest.sha256(), manifest.flip().sha256())
    for record, run, flipped in zip(records, runs, (False, True)):
        if record.flipped != flipped:
            names = ("the run of the images", "the run of the flipped images")
            raise UserError("the other run", where=run, expected=names[flipped], found=names[not flipped])
        check_inputs(record.manifest_sha256, run, hashes, path, "run make infer")
        check_run(record, run, manifest, cfg, outputs=2)
    return records


def run(cfg: Path, path: Path, runs: list[Path], output: Path, workers: int) -> None:
    """Decode the outputs of all images of the manifest at `path`. `runs`: the run record, and for the flip test that of
    the flipped images."""
    config, manifest = load_config(cfg, POSE), Manifest.read(path)
    check_manifest(manifest, path, config, cfg)
    records, folders = read_runs(cfg, path, manifest, runs), [output_folder(run) for run in runs]
    tasks = [
        Task(
            image,
            [[folder / name for name in record.files[image.stem]] for record, folder in zip(records, folders)],
        )
        for image in manifest.images
    ]
    started = time.perf_counter()
    cv2.setNumThreads(1)  # one process for each core is enough, and OpenCV's threads do not survive a fork
    work = partial(find_people, settings=read_settings(config), hint=f"rm {runs[0]}; make infer")
    found = map_files(work, tasks, workers)
    people = [person for results, _ in found for person in results]
    seconds: Counter[str] = Counter({"infer": sum(record.seconds["total"] or 0.0 for record in records)})
    for _, milliseconds in found:
        seconds.update({step: spent / 1000 for step, spent in milliseconds.items()})
    make_folder(output.parent)
    write_keypoints(output, people)
    DecodeRecord(
        manifest_sha256=sha256_file(path),
        model_sha256=records[0].model_sha256,
        keypoints_sha256=sha256_file(output),
        metadata=records[0].metadata,
        tool=records[0].tool,
        flip=len(runs) > 1,
        images=len(tasks),
        people=len(people),
        inferred=min(record.images - record.kept for record in records),
        seconds=dict(seconds),
    ).write(output)
    rate = len(tasks) / (time.perf_counter() - started)
    print(f"found {len(people)} people on {len(tasks)} images, {output} ({rate:.1f} img/s)")


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=integer(1), default=cores(), help="processes (default: all cores)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.decode", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    parser.add_argument("--dump_dir", type=Path, required=True, help="directory of outputs, its run record beside it")
    parser.add_argument("--dump_dir_flip", type=Path, help="that of the flipped images (default: no flip test)")
    parser.add_argument("--output", type=Path, required=True, help="the keypoints to write")
    add_workers_argument(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    folders = [folder for folder in (args.dump_dir, args.dump_dir_flip) if folder is not None]
    runs = [folder.with_name(f"{folder.name}_run.json") for folder in folders]
    run(args.cfg, args.manifest, runs, args.output, args.workers)


if __name__ == "__main__":
    sys.exit(main())
