"""Outputs of a classifier and labels -> Top-N accuracies, and the model zoo's result.json.

Source: the model zoo's imagenet_acc_eval.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Optional

import numpy as np

from hrnet.cli import cores
from hrnet.io import tensors
from hrnet.io.files import AnyPath, write_text
from hrnet.io.records import FormatError
from hrnet.workers import map_files
from postprocess.logits import read_logits

TOP = 5
IMAGES_AT_ONCE = 64  # 256 KB of 1000 float32 classes: fits into a core's cache
IMAGES_ALONE = 2048  # up to this number, starting processes takes longer than the work


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the label's: 0 is a Top-1 hit. Of equal logits the lower index comes first.

    logits float [N, C], labels int [N] in 0..C-1; returns int [N].
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    ranks: np.ndarray = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return ranks


def cumulative_accuracies(ranks: np.ndarray, top: int) -> list[float]:
    """Fractions of images whose label is among the first 1, 2, … `top` classes."""
    return [float((ranks < n).mean()) for n in range(1, top + 1)]


def label_offset(outputs: int, classes: int, where: object) -> int:
    """0 when the model has the data set's classes, 1 when it has a background class before them (1001 for 1000)."""
    if outputs not in (classes, classes + 1):
        expected = f"{classes} classes, or {classes + 1} with a background class first"
        raise FormatError("outputs do not match the labels", where=where, expected=expected, found=outputs)
    return outputs - classes


def rank_block(block: tuple[Sequence[str], np.ndarray], dtype: str, size: int, hint: Optional[str]) -> np.ndarray:
    """Ranks of the labels (int [N]) of some images. block: their files, and their labels as indices of outputs."""
    files, labels = block
    return label_ranks(read_logits(files, dtype, size, hint), labels)


def rank_files(
    files: Sequence[str],
    labels: Sequence[int],
    classes: int,
    dtype: str = "float32",
    size: int = 0,
    hint: Optional[str] = None,
) -> tuple[np.ndarray, int]:
    """Ranks of the labels (int [N]) and the number of outputs C, from one file for each image, all of one format.

    `classes` 0: unknown, and labels are shifted only when there are 1001 outputs, as in the model zoo's script.
    `size`: C, or 0 when it is unknown. `hint`: the command that writes the outputs again. Memory does not grow with the
    number of images.
    """
    outputs = size or tensors.read_output(files[0], dtype, hint).size
    offset = label_offset(outputs, classes or (1000 if outputs == 1001 else outputs), os.path.dirname(files[0]))
    wanted = np.asarray(labels) + offset
    if wanted.max() >= outputs:
        file, found = files[int(wanted.argmax())], int(wanted.max()) - offset
        expected = f"below {outputs - offset}"
        raise FormatError("label outside the classes", where=file, expected=expected, found=found)
    starts = range(0, len(files), IMAGES_AT_ONCE)
    blocks = [(files[start : start + IMAGES_AT_ONCE], wanted[start : start + IMAGES_AT_ONCE]) for start in starts]
    rank = partial(rank_block, dtype=dtype, size=outputs, hint=hint)
    ranks = map_files(rank, blocks, cores()) if len(files) > IMAGES_ALONE else list(map(rank, blocks))
    return np.concatenate(ranks), outputs


def write_result(path: AnyPath, accuracies: Sequence[float], images: int, classes: int) -> None:
    """Write the model zoo's result.json, byte for byte: one line without a newline. `accuracies`: of Top-1, Top-2, …"""
    write_text(path, json.dumps(result(accuracies, images, classes)))


def result(accuracies: Sequence[float], images: int, classes: int) -> dict[str, Any]:
    """The content of result.json. Percentages are rounded by numpy, which differs from Python at halves: 1 of 20,000 is
    0.0%, not 0.01%."""
    value = [{"key": "Number of images", "value": str(images)}, {"key": "Number of classes", "value": str(classes)}]
    value += [
        {"key": f"Top{n} accuracy", "value": f"{np.round(np.float64(accuracy) * 100, 2)}%"}
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return {"title": "Overall statistical evaluation", "value": value}
