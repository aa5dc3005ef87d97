"""The outputs of a HigherHRNet run, and of the flipped images' run -> the people on each image.

    python -m postprocess.decode --cfg configs/higher_hrnet_w32_512.yaml
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --dump_dir build/higher_hrnet_w32_512/out/coco-float32/onnxruntime-bs1-fp32
        --dump_dir_flip build/higher_hrnet_w32_512/out/coco-float32-flip/onnxruntime-bs1-fp32
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json

Reads    the manifest, the outputs, and the run records beside their folders (`<folder>_run.json`)
Writes   COCO keypoint results, then the record beside them (DecodeRecord)

Source: the seed's HigherHRNet_postprocess.py, whose --dump_dir and --dump_dir_flip these are. The decoding itself is
hrnet.pose's.
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
from yacs.config import CfgNode

from hrnet.cli import UserError, command, cores, first_few, integer
from hrnet.config import config_sha256, load_config
from hrnet.io import tensors
from hrnet.io.coco import JOINTS, PERSON, write_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError
from hrnet.io.runs import DecodeRecord, RunRecord
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE
from hrnet.workers import map_files


class Task(NamedTuple):
    image: InputImage
    outputs: list[Path]  # of the image, in the model's order
    flipped: list[Path]  # of the flipped image; none without the flip test


class Found(NamedTuple):
    people: list[dict[str, Any]]  # COCO results
    milliseconds: dict[str, float]  # by step


class Run(NamedTuple):
    """One run's record and folder."""

    folder: Path
    record: RunRecord

    @staticmethod
    def of(folder: Path) -> Run:
        return Run(folder, RunRecord.read(folder.with_name(f"{folder.name}_run.json")))

    def files(self, image: InputImage) -> list[Path]:
        return [self.folder / name for name in self.record.files[image.stem]]


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
    """keypoints [P, 17, 3] (x, y in pixels of the photograph, score) and the people's scores [P] as COCO results."""
    return [
        {
            "image_id": image.image_id,
            "category_id": PERSON,
            "keypoints": [float(value) for value in person.reshape(-1)],
            "score": float(score),
        }
        for person, score in zip(keypoints[:, :, :3], scores)
    ]


def find_people(task: Task, settings: Settings, hint: str) -> Found:
    """Read the outputs of one image and decode them."""
    image = task.image
    height, width = image.sides()
    begun = time.perf_counter()
    outputs = read_outputs(task.outputs, (height, width), hint)
    flipped = read_outputs(task.flipped, (height, width), hint) if task.flipped else None
    milliseconds = {"read": 1000 * (time.perf_counter() - begun)}
    try:
        people = decode(outputs, flipped, settings, milliseconds)
    except UserError as error:
        raise UserError(str(error), where=task.outputs[0].parent / image.stem) from None
    assert image.center is not None and image.scale is not None
    placed = to_image(people.keypoints, image.center, image.scale, (width, height))
    return Found(coco_results(image, placed, people.scores), milliseconds)


def check_joint(args: argparse.Namespace, config: CfgNode, manifest: Manifest, runs: list[Run]) -> None:
    """Config, inputs and outputs must speak of one model and of the same images."""
    if manifest.config_sha256 != config_sha256(config):
        raise UserError(f"was made for another config than {args.cfg}", where=args.manifest, hint="run make preprocess")
    if len({run.record.model_sha256 for run in runs}) > 1:
        raise UserError("was made by another model than --dump_dir", where=args.dump_dir_flip, hint="run make infer")
    inputs = {manifest.sha256(), manifest.mirrored().sha256()}
    stems = {image.stem for image in manifest.images}
    for run, flipped in zip(runs, (False, True)):
        record = run.record
        if record.flipped != flipped:
            expected = "the flipped images' outputs" if flipped else "those of the images as they are"
            raise UserError("is the other run", where=run.folder, expected=expected)
        if record.manifest_sha256 not in inputs:
            expected = f"those of {args.manifest}"
            raise UserError(
                "run was made from other inputs", where=run.folder, expected=expected, hint="run make infer"
            )
        if record.metadata.get("config_sha256", manifest.config_sha256) != manifest.config_sha256:
            found, hint = record.metadata.get("model"), "say the MODEL that the ONNX file was made from"
            raise UserError(
                "is of a model of another config", where=run.folder, expected=args.cfg, found=found, hint=hint
            )
        differ = stems ^ set(record.files)
        if differ:
            hint = f"rm {run.folder}_run.json; make infer"
            raise FormatError("outputs and inputs differ", where=run.folder, found=first_few(sorted(differ)), hint=hint)
        if len(record.outputs) != 2 or any(len(names) != 2 for names in record.files.values()):
            names = [tensor.name for tensor in record.outputs]
            raise FormatError("HigherHRNet has two outputs", where=run.folder, found=names)


def run(args: argparse.Namespace) -> None:
    """Decode the outputs of all images of the manifest."""
    config, manifest = load_config(args.cfg, POSE), Manifest.read(args.manifest)
    runs = [Run.of(folder) for folder in (args.dump_dir, args.dump_dir_flip) if folder is not None]
    check_joint(args, config, manifest, runs)
    tasks = [
        Task(image, runs[0].files(image), runs[1].files(image) if len(runs) > 1 else []) for image in manifest.images
    ]
    started = time.perf_counter()
    hint = f"rm {args.dump_dir}_run.json; make infer"
    cv2.setNumThreads(1)  # a process for each core is enough, and OpenCV's threads do not outlive a fork
    found = map_files(partial(find_people, settings=read_settings(config), hint=hint), tasks, args.workers)
    people = [person for each in found for person in each.people]
    seconds: Counter[str] = Counter({"infer": sum(run.record.seconds["total"] or 0.0 for run in runs)})
    for each in found:
        seconds.update({step: spent / 1000 for step, spent in each.milliseconds.items()})
    make_folder(args.output.parent)
    write_keypoints(args.output, people)
    record = runs[0].record
    DecodeRecord(
        manifest_sha256=sha256_file(args.manifest),
        model_sha256=record.model_sha256,
        keypoints_sha256=sha256_file(args.output),
        metadata=record.metadata,
        tool=record.tool,
        flip=len(runs) > 1,
        images=len(tasks),
        people=len(people),
        inferred=min(run.record.images - run.record.kept for run in runs),
        seconds=dict(seconds),
    ).write(args.output)
    rate = len(tasks) / (time.perf_counter() - started)
    print(f"found {len(people)} people on {len(tasks)} images, {args.output} ({rate:.1f} img/s)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.decode", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--dump_dir", type=Path, required=True, help="folder of outputs, its run record beside it")
    parser.add_argument("--dump_dir_flip", type=Path, help="those of the flipped images (none: no flip test)")
    parser.add_argument("--output", type=Path, required=True, help="the keypoints to write")
    parser.add_argument("--workers", type=integer(1), default=cores(), help="processes (default: all cores)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
