"""The images of a classification data set: random crops for training, centre crops for validation.

Random crop and flip are torchvision's RandomResizedCrop and RandomHorizontalFlip on Pillow images
(https://github.com/pytorch/vision, torchvision/transforms/transforms.py): crop, then bilinear resize. Pixels stay uint8
until they are on the device, so that processes exchange a quarter of the bytes of float32.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from hrnet import datasets
from hrnet.class_folders import LISTED
from hrnet.cli import UserError, first_few, plural
from hrnet.images import Transform, open_image
from hrnet.tars import Source
from train.batches import SEED, Samples

RATIO = (3 / 4, 4 / 3)  # aspect ratio of a random crop: width / height
ATTEMPTS = 10  # random crops to try; if none fits into the image, its centre is used


class LabelledImages(Samples):
    """Each image as uint8 pixels [H, W, 3] at the network's input size, with its label."""

    def __init__(self, dataset: datasets.Dataset, config: CfgNode, training: bool) -> None:
        cv2.setNumThreads(1)  # in the processes that read images, which share the cores
        self.files = [dataset.root / source for source in dataset.labels]
        self.contents: Sequence[Source] = list(dataset.members.values()) or self.files  # members of tar files, or files
        self.labels = list(dataset.labels.values())
        self.source, self.unlabelled, self.more_notes = dataset.index, dataset.unlabelled, dataset.notes()
        self.config, self.training = config, training

    def __len__(self) -> int:
        return len(self.files)

    def read(self, epoch: int, index: int) -> tuple[torch.Tensor, int]:
        image = open_image(self.contents[index]).convert("RGB")
        if self.training:
            pixels = np.asarray(augment(image, self.config, random.Random(f"{SEED} {epoch} {index}")))
        else:
            pixels = Transform.of(self.config).crop(np.asarray(image))
        return torch.from_numpy(np.array(pixels)), self.labels[index]

    def notes(self) -> list[str]:
        notes = []
        if self.unlabelled:
            count = plural(len(self.unlabelled), "file without a class is", "files without a class are")
            notes.append(f"{count} not used: {first_few(self.unlabelled)}")
        return notes + self.more_notes

    def sha256(self) -> str:
        lines = (f"{os.path.join(*path.parts[-3:])} {label}\n" for path, label in zip(self.files, self.labels))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_images(root: Path, config: CfgNode, training: bool) -> LabelledImages:
    """List the images of train/<class>/, where the sorted directories are the classes, or of val/ in any layout that
    preprocessing supports. Raises UserError if files are not images, or if the classes differ from the model's or from
    the classes of the other split."""
    find = datasets.find_training_images if training else datasets.find_images
    dataset = find(root, config.MODEL.NUM_CLASSES)
    rejected = dataset.not_images()
    if rejected:
        found = first_few((f"{source}: {reason}" for source, reason in rejected.items()), LISTED)
        raise UserError("files that are not images", where=dataset.index, found=found, hint="fix or remove them")
    if not training:
        datasets.check_classes_agree(root, dataset)
    return LabelledImages(dataset, config, training)


def crop_box(width: int, height: int, scale: tuple[float, float], rng: random.Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random crop, pixels. Its fraction of the image's area is uniform in `scale`, its
    aspect ratio log-uniform in RATIO. If ATTEMPTS crops do not fit: the largest centre crop with a ratio in RATIO."""
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def augment(image: Image.Image, config: CfgNode, rng: random.Random) -> Image.Image:
    """A random crop, resized to the network's input size; it is flipped with probability 0.5 unless DATASET.FLIP is
    false."""
    box = crop_box(image.width, image.height, config.TRAIN.CROP_SCALE, rng)
    crop = image.crop(box).resize(tuple(config.MODEL.IMAGE_SIZE), Image.Resampling.BILINEAR)
    if config.DATASET.FLIP and rng.random() < 0.5:
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return crop
