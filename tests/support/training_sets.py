"""A data set of three classes that a tiny net learns in a few epochs, drawn people for a tiny pose net, and their
configs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data import people
from tests.support import tiny

CLASSES = ("dark", "grey", "light")
TRAINED, VALIDATED = 8, 3  # images of each class
CONFIG = (
    tiny.CONFIG.replace(f"NUM_CLASSES: {tiny.CLASSES}", f"NUM_CLASSES: {len(CLASSES)}")
    .replace(f"[{tiny.SIDE}, {tiny.SIDE}]", "[32, 32]")
    .replace("RESIZE: 80", "RESIZE: 36")
    + "TRAIN: {LR: 0.05, BATCH_SIZE_PER_GPU: 8, END_EPOCH: 4, LR_STEP: [3], CROP_SCALE: [0.5, 1.0]}\n"
    + "TEST: {BATCH_SIZE_PER_GPU: 4}\nPRINT_FREQ: 2\nWORKERS: 0\n"
)
POSE_TRAINING = (
    "TRAIN: {LR: 0.01, LR_STEP: [], IMAGES_PER_GPU: 4, END_EPOCH: 4}\n"
    "LOSS: {AE_LOSS_TYPE: exp}\nPRINT_FREQ: 1\nWORKERS: 0\n"
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
        for number in range(TRAINED + VALIDATED):
            split = "train" if number < TRAINED else "val"
            draw(root / split / name / f"{name}{number}.JPEG", label, 10 * label + number)
    return root


def people_set(root: Path, images: int = 10) -> Path:
    """Drawn people to train on in COCO's layout."""
    given = {"--output": root, "--split": "train2017", "--images": images, "--size": 64, "--seed": 3}
    assert people.main([str(part) for pair in given.items() for part in pair]) == 0
    return root


def write_config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_pose_config(folder: Path, training: str = POSE_TRAINING) -> Path:
    path = tiny.write_pose_config(folder)
    side = f"INPUT_SIZE: {tiny.SIDE}"
    path.write_text(path.read_text().replace(side, f"{side}\n  SIGMA: 2") + training)
    return path.rename(folder / "small.yaml")


def set_up(task: str, folder: Path) -> Path:
    """`data` and `small.yaml` of a task in `folder`."""
    if task == "pose":
        people_set(folder / "data")
        write_pose_config(folder)
    else:
        data_set(folder / "data")
        write_config(folder)
    return folder
