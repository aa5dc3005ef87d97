"""Compute predictions, Top-N accuracies and the model zoo's result.json from a classifier's outputs and labels.

Source: the model zoo's imagenet_acc_eval.py.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from hrnet.class_folders import names_of
from hrnet.cli import cores, plural
from hrnet.config import load_config
from hrnet.io import tensors
from hrnet.io.files import AnyPath, sha256_file, write_text
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.parts import predictions_path
from hrnet.io.predictions import ClassPrediction
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord, output_folder
from hrnet.schemas import CLASSIFIERS
from hrnet.workers import map_files
from postprocess.checks import check_inputs, check_manifest, check_run
from postprocess.logits import read_logits
from postprocess.part import Job, write_part

TOP = 5
PREDICTION = tuple(field.name for field in fields(ClassPrediction))
BLOCK_IMAGES = 64  # 256 KB for 1000 float32 classes, which fits into a core's cache
MAX_SERIAL_IMAGES = 2048  # up to this number, starting processes takes longer than the work


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of each label: the number of classes with a higher logit, or with an equal logit and a lower index. Rank
    0 is a Top-1 hit.

    logits float [N, C], labels int [N] in 0..C-1; returns int [N].
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    ranks: np.ndarray = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return ranks


def cumulative_accuracies(ranks: np.ndarray, top: int) -> list[float]:
    """The fractions of images for which the label is one of the first 1, 2, … `top` classes."""
    return [float((ranks < n).mean()) for n in range(1, top + 1)]


def label_offset(outputs: int, classes: int, where: object) -> int:
    """0 if the model has the data set's classes, 1 if it has an additional background class first (1001 instead of
    1000)."""
    if outputs not in (classes, classes + 1):
        expected = f"{classes} classes, or {classes + 1} with a background class first"
        raise FormatError("wrong number of outputs", where=where, expected=expected, found=outputs)
    return outputs - classes


def best_classes(logits: np.ndarray, count: int, softmax: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The `count` most probable classes, best first (int [N, count]), and their probabilities (float64 [N, count]): the
    softmax, or without `softmax` the values themselves. For equal logits the lower index is first. logits [N, C] must
    be finite, count at most C."""
    probabilities = logits.astype(np.float64)
    if softmax:
        powers = np.exp(probabilities - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
    rest, rows = logits.copy(), np.arange(len(logits))
    best = np.empty((len(logits), count), np.int64)
    for place in range(count):  # faster than sorting all classes
        best[:, place] = rest.argmax(axis=1)
        rest[rows, best[:, place]] = -np.inf
    return best, np.take_along_axis(probabilities, best, axis=1)


def class_name(names: Sequence[str], index: int) -> str:
    """The name of a class. `names`: INPUT.CLASS_NAMES or those of directories; may be empty; index -1: background."""
    if index < 0:
        return "background"
    return names[index] if names else f"class {index}"


def add_labelled_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--labelled`, for `directory_names`."""
    text = "directories with inputs of one data set, for class names if the config has none"
    parser.add_argument("--labelled", type=Path, nargs="*", default=[], metavar="DIR", help=text)


def directory_names(labelled: Iterable[Path], classes: int) -> list[str]:
    """The names of the class directories in the data set whose inputs are in the directories `labelled`; prints where
    they are from. Empty if the data set has no class directories or another number of classes, or if the directories
    contradict each other."""
    found: dict[Path, list[str]] = {}
    for path in (folder / "manifest.json" for folder in labelled):
        manifest = Manifest.read(path) if path.exists() else None
        if manifest and manifest.dataset == "imagenet" and manifest.classes == classes:
            found[path] = names_of(((image.source, image.label or 0) for image in manifest.images), classes)
    known = {path: names for path, names in found.items() if names}
    first = next(iter(known), None)
    if first is None or any(names != known[first] for names in known.values()):
        return []
    print(f"class names: the class directories of the data set in {first}", flush=True)
    return known[first]


class Block(NamedTuple):
    """Some images: output files, labels as output indices, and their entries in the manifest (may be empty)."""

    files: Sequence[str]
    labels: np.ndarray
    images: Sequence[InputImage]


class Ranking(NamedTuple):
    """Ranks of the labels (int [N]), the number of outputs C, and text for predictions.jsonl."""

    ranks: np.ndarray
    outputs: int
    lines: list[str]


def rank_block(
    block: Block, dtype: str, size: int, offset: int, hint: Optional[str], softmax: bool = True
) -> tuple[np.ndarray, Optional[str]]:
    """Rank the labels (int [N]) and, if `block` has images, create the lines for predictions.jsonl."""
    logits = read_logits(block.files, dtype, size, hint)
    ranks = label_ranks(logits, block.labels)
    if not block.images:
        return ranks, None
    best, probabilities = best_classes(logits, min(TOP, size), softmax)
    columns = (block.labels - offset, ranks, best - offset, probabilities.round(6))
    lines = [
        json.dumps(dict(zip(PREDICTION, (image.source, *values, [image.width, image.height]))))
        for image, *values in zip(block.images, *(column.tolist() for column in columns))
    ]
    return ranks, "\n".join(lines) + "\n"


def rank_files(
    files: Sequence[str],
    labels: Sequence[int],
    classes: int,
    dtype: str = "float32",
    size: int = 0,
    hint: Optional[str] = None,
    images: Sequence[InputImage] = (),
    softmax: bool = True,
) -> Ranking:
    """Rank the labels of all images. `files`: one output file per image, all of one format.

    `classes` 0: unknown; then labels are shifted only if there are 1001 outputs, as in the model zoo's script. `size`:
    C, or 0 if it is unknown. `hint`: the command that writes the outputs again. `images`: their entries in the
    manifest, for predictions.jsonl; without them no lines are created. `softmax`: False if the outputs are
    probabilities. Memory does not grow with the size of the outputs.
    """
    outputs = size or tensors.read_output(files[0], dtype, hint).size
    offset = label_offset(outputs, classes or (1000 if outputs == 1001 else outputs), os.path.dirname(files[0]))
    wanted = np.asarray(labels) + offset
    if wanted.max() >= outputs:
        file, found = files[int(wanted.argmax())], int(wanted.max()) - offset
        expected = f"below {outputs - offset}"
        raise FormatError("label out of range", where=file, expected=expected, found=found)
    spans = [slice(start, start + BLOCK_IMAGES) for start in range(0, len(files), BLOCK_IMAGES)]
    blocks = [Block(files[span], wanted[span], images[span]) for span in spans]
    rank = partial(rank_block, dtype=dtype, size=outputs, offset=offset, hint=hint, softmax=softmax)
    results = map_files(rank, blocks, cores()) if len(files) > MAX_SERIAL_IMAGES else list(map(rank, blocks))
    lines = [text for _, text in results if text is not None]
    return Ranking(np.concatenate([ranks for ranks, _ in results]), outputs, lines)


class Outputs(NamedTuple):
    """The outputs of a run over a manifest's images."""

    manifest: Manifest
    record: RunRecord
    files: list[str]  # one for each image, in the manifest's order
    dtype: str
    size: int  # number of outputs, C
    softmax: bool  # whether to compute the softmax: the outputs are logits, else they are probabilities


def read_outputs(cfg: Path, path: Path, run: Path) -> Outputs:
    """The outputs that the run record at `run` lists for the manifest at `path`. Raises UserError if config, manifest
    and run describe different models or images."""
    config, manifest, record = load_config(cfg, *CLASSIFIERS), Manifest.read(path), RunRecord.read(run)
    check_manifest(manifest, path, config, cfg)
    check_inputs(record.manifest_sha256, run, [sha256_file(path)], path, "run make infer")
    check_run(record, run, manifest, cfg, outputs=1)
    folder, (output,) = output_folder(run), record.outputs
    files = [os.path.join(folder, record.files[image.stem][0]) for image in manifest.images]
    size = output.bytes_of_one() // np.dtype(output.dtype).itemsize
    softmax = record.metadata.get("output") != "probabilities"
    return Outputs(manifest, record, files, output.dtype, size, softmax)


def predict(job: Job) -> None:
    """Write the predictions for all images of a run, then the part's record. Raises UserError if config, manifest and
    run describe different models or images."""
    started, (run,) = time.perf_counter(), job.runs
    manifest, record, paths, dtype, size, softmax = read_outputs(job.cfg, job.manifest, run)
    labels, hint = manifest.labels(), f"rm {run}; make infer"
    ranking = rank_files(paths, labels, manifest.classes, dtype, size, hint, manifest.images, softmax)
    write_text(predictions_path(job.part), "".join(ranking.lines))
    write_part(job, "classification", ranking.outputs, {"infer": record.seconds["total"] or 0.0})
    rate = len(paths) / (time.perf_counter() - started)
    print(f"ranked the classes of {plural(len(paths), 'image')} ({rate:.0f} images/s)")


def write_result(path: AnyPath, accuracies: Sequence[float], images: int, classes: int) -> None:
    """Write result.json with the same bytes as the model zoo: one line without a newline."""
    write_text(path, json.dumps(result(accuracies, images, classes)))


def result(accuracies: Sequence[float], images: int, classes: int) -> dict[str, Any]:
    """The content of result.json. Percentages are rounded by numpy, which rounds halves differently from Python: 1 of
    20,000 gives 0.0%, not 0.01%."""
    value = [{"key": "Number of images", "value": str(images)}, {"key": "Number of classes", "value": str(classes)}]
    value += [
        {"key": f"Top{n} accuracy", "value": f"{np.round(np.float64(accuracy) * 100, 2)}%"}
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return {"title": "Overall statistical evaluation", "value": value}
