"""Decode the outputs of a HigherHRNet run and, for the flip test, of the run over flipped images: people per image.

Source: the model zoo's HigherHRNet_postprocess.py. The decoding itself is in hrnet/pose.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hrnet.cli import UserError, plural
from hrnet.config import load_config
from hrnet.io import tensors
from hrnet.io.coco import JOINTS, PERSON, write_keypoints
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.parts import keypoints_path, predictions_path
from hrnet.io.predictions import PosePrediction, write_predictions
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord, output_folder
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE
from hrnet.workers import map_files
from postprocess.checks import check_inputs, check_manifest, check_run
from postprocess.part import Job, write_part


class Task(NamedTuple):
    image: InputImage
    outputs: list[list[Path]]  # files of the image in the model's order; for the flip test also of the flipped image


def read_outputs(files: list[Path], shape: tuple[int, int], hint: str) -> list[np.ndarray]:
    """Read output1 [1, 34, H/4, W/4] and output2 [1, 17, H/2, W/2] for an input of `shape` (H, W), as float32."""
    height, width = shape
    expected = [(1, 2 * JOINTS, height // 4, width // 4), (1, JOINTS, height // 2, width // 2)]
    outputs = [tensors.read_output(file, hint=hint) for file in files]
    for file, output, size in zip(files, outputs, expected):
        if output.shape != size:
            raise FormatError("wrong shape", where=file, expected=list(size), found=list(output.shape), hint=hint)
    return [np.asarray(output, dtype=np.float32) for output in outputs]


def coco_results(image: InputImage, keypoints: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Convert people to COCO results. `keypoints` [P, 17, 3]: x, y in pixels of the source image, score; `scores`
    [P]."""
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
    """Decode the outputs of one image. Returns the people as COCO results and the milliseconds of each step."""
    image = task.image
    height, width = image.sides()
    started = time.perf_counter()
    passes = [read_outputs(files, (height, width), hint) for files in task.outputs]
    milliseconds = {"read": 1000 * (time.perf_counter() - started)}
    try:
        keypoints, scores = people_of(passes, image, settings, milliseconds)
    except UserError as error:
        raise UserError(str(error), where=task.outputs[0][0].parent / image.stem) from None
    return coco_results(image, keypoints, scores), milliseconds


def people_of(
    passes: Sequence[Sequence[np.ndarray]], image: InputImage, settings: Settings, milliseconds: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The people on an image: keypoints [P, 17, 3 + D] (x, y in pixels of the image, score, tags) and scores [P].
    `passes`: the outputs, float32, and for the flip test also those of the flipped image."""
    people = decode(passes[0], passes[1] if len(passes) > 1 else None, settings, milliseconds)
    height, width = image.sides()
    assert image.center is not None and image.scale is not None
    return to_image(people.keypoints, image.center, image.scale, (width, height)), people.scores


def read_runs(cfg: Path, path: Path, manifest: Manifest, runs: list[Path]) -> list[RunRecord]:
    """Read the record of the run and, if given, of the run over flipped images. Raises UserError if they, the config
    and the manifest at `path` describe different models or images."""
    records = [RunRecord.read(run) for run in runs]
    if len({record.model_sha256 for record in records}) > 1:
        raise UserError("the two runs used different models", where=runs[1], hint="run make infer")
    hashes = (manifest.sha256(), manifest.flip().sha256())
    for record, run, flipped in zip(records, runs, (False, True)):
        if record.flipped != flipped:
            names = ("a run over the images", "a run over the flipped images")
            raise UserError("wrong run", where=run, expected=names[flipped], found=names[not flipped])
        check_inputs(record.manifest_sha256, run, hashes, path, "run make infer")
        check_run(record, run, manifest, cfg, outputs=2)
    return records


def decode_runs(
    cfg: Path, path: Path, runs: list[Path], workers: int
) -> tuple[list[list[dict[str, Any]]], dict[str, float]]:
    """Find the people on each image of the manifest at `path`. Returns COCO results per image, and the seconds of
    inference and of each step, summed over processes. `runs`: the run record and, for the flip test, the record of the
    run over flipped images."""
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
    cv2.setNumThreads(1)  # there is one process per core, and OpenCV's threads do not survive a fork
    work = partial(find_people, settings=read_settings(config), hint=f"rm {runs[0]}; make infer")
    found = map_files(work, tasks, workers)
    seconds: Counter[str] = Counter({"infer": sum(record.seconds["total"] or 0.0 for record in records)})
    for _, milliseconds in found:
        seconds.update({step: spent / 1000 for step, spent in milliseconds.items()})
    return [people for people, _ in found], dict(seconds)


def predict(job: Job, workers: int) -> None:
    """Write keypoints and predictions for all images of a run, then the part's record."""
    started = time.perf_counter()
    images = Manifest.read(job.manifest).images
    people, seconds = decode_runs(job.cfg, job.manifest, job.runs, workers)
    write_keypoints(keypoints_path(job.part), (person for found in people for person in found))
    predictions = [
        PosePrediction(
            source=image.source,
            image_id=image.image_id or 0,
            gear=list(image.sides()),
            people=len(found),
            score=max((person["score"] for person in found), default=None),
        )
        for image, found in zip(images, people)
    ]
    write_predictions(predictions_path(job.part), predictions)
    write_part(job, "pose", 1, seconds)
    rate, count = len(images) / (time.perf_counter() - started), sum(map(len, people))
    print(f"found {plural(count, 'person', 'people')} on {plural(len(images), 'image')} ({rate:.1f} images/s)")
