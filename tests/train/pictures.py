"""A data set of three classes that a tiny net tells apart in a few epochs, its config, and calls of the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import tiny
from train import classification

CLASSES = ("dark", "grey", "light")
TRAINED, HELD_OUT = 8, 3  # images of each class
CONFIG = (
    tiny.CONFIG.replace(f"NUM_CLASSES: {tiny.CLASSES}", f"NUM_CLASSES: {len(CLASSES)}")
    .replace(f"[{tiny.SIDE}, {tiny.SIDE}]", "[32, 32]")
    .replace("RESIZE: 80", "RESIZE: 36")
    + "TRAIN: {LR: 0.05, BATCH_SIZE_PER_GPU: 8, END_EPOCH: 4, LR_STEP: [3], CROP_SCALE: [0.5, 1.0]}\n"
    + "TEST: {BATCH_SIZE_PER_GPU: 4}\nPRINT_FREQ: 2\nWORKERS: 0\n"
)


def draw(path: Path, label: int, seed: int) -> None:
    """Noise around the class's brightness, 40 to 49 pixels wide."""
    source = np.random.default_rng(seed)
    noise = source.integers(0, 60, (40, 40 + seed % 10, 3)) + 90 * label
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path, "JPEG")


def data_set(root: Path) -> Path:
    """train/<class>/ and val/<class>/."""
    for label, name in enumerate(CLASSES):
        for number in range(TRAINED + HELD_OUT):
            split = "train" if number < TRAINED else "val"
            draw(root / split / name / f"{name}{number}.JPEG", label, 10 * label + number)
    return root


def write_config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def train(folder: Path, *more: object, output: str = "out") -> int:
    """The trainer in this process, on the data set and config in `folder`."""
    given = (folder / "data", "--cfg", folder / "small.yaml", "--output", folder / output, "--precision", "fp32")
    return classification.main([str(part) for part in (*given, *more)])


def curve(folder: Path, output: str = "out") -> list[dict[str, Any]]:
    """metrics.jsonl without what tells of times."""
    lines = (folder / output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    of_times = ("seconds", "images_per_second")
    return [{key: value for key, value in json.loads(line).items() if key not in of_times} for line in lines]
