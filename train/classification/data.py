"""The images of a classification data set: random crops to train on, the centre to validate on.

Random crop and flip are torchvision's RandomResizedCrop and RandomHorizontalFlip on Pillow images
(https://github.com/pytorch/vision, torchvision/transforms/transforms.py): crop, then bilinear resize. Pixels stay uint8
until they are on the device, a quarter of the bytes between processes.
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
from hrnet.cli import UserError, first_few
from hrnet.images import Transform, open_image
from hrnet.tars import Source
from train.batches import SEED, Samples

RATIO = (3 / 4, 4 / 3)  # width over height of a random crop
ATTEMPTS = 10  # random crops that may not fit into the image before its centre is taken


class LabelledImages(Samples):
    """Pixels uint8 [H, W, 3] at the net's size, and the label, of each image."""

    def __init__(self, dataset: datasets.Dataset, config: CfgNode, training: bool) -> None:
        cv2.setNumThreads(1)  # in the processes that read images, which share the cores
        self.files = [dataset.root / source for source in dataset.labels]
        self.places: Sequence[Source] = list(dataset.members.values()) or self.files  # of the bytes
        self.labels = list(dataset.labels.values())
        self.source, self.left_out, self.more_notes = dataset.index, dataset.unlabelled, dataset.notes()
        self.config, self.training = config, training

    def __len__(self) -> int:
        return len(self.files)

    def read(self, epoch: int, number: int) -> tuple[torch.Tensor, int]:
        image = open_image(self.places[number]).convert("RGB")
        if self.training:
            pixels = np.asarray(augment(image, self.config, random.Random(f"{SEED} {epoch} {number}")))
        else:
            pixels = Transform.of(self.config).crop(np.asarray(image))
        return torch.from_numpy(np.array(pixels)), self.labels[number]

    def notes(self) -> list[str]:
        notes = []
        if self.left_out:
            notes.append(f"{len(self.left_out)} files without a class are left out: {first_few(self.left_out)}")
        return notes + self.more_notes

    def sha256(self) -> str:
        lines = (f"{os.path.join(*path.parts[-3:])} {label}\n" for path, label in zip(self.files, self.labels))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_images(root: Path, config: CfgNode, training: bool) -> LabelledImages:
    """The images of train/<class>/, the sorted folders being the classes, or those below val/ in any layout that
    preprocessing knows. Raises UserError with all files that are no images, and where the classes are not the model's
    or those of the other split."""
    find = datasets.find_training_images if training else datasets.find_images
    dataset = find(root, config.MODEL.NUM_CLASSES)
    others = dataset.not_images()
    if others:
        found = first_few((f"{source}: {reason}" for source, reason in others.items()), datasets.LISTED)
        raise UserError("files that are no images", where=dataset.index, found=found, hint="fix or remove them")
    if not training:
        datasets.check_classes_agree(root, dataset)
    return LabelledImages(dataset, config, training)


def crop_box(width: int, height: int, scale: tuple[float, float], source: random.Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random crop, pixels: its share of the area is uniform in `scale`, its ratio
    log-uniform in RATIO. If ATTEMPTS of these do not fit: the widest crop from the centre."""
    for _ in range(ATTEMPTS):
        area = width * height * source.uniform(*scale)
        ratio = math.exp(source.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = source.randint(0, width - w), source.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def augment(image: Image.Image, config: CfgNode, source: random.Random) -> Image.Image:
    """A random crop at the network's size, flipped in half of all cases unless DATASET.FLIP is off."""
    box = crop_box(image.width, image.height, config.TRAIN.CROP_SCALE, source)
    crop = image.crop(box).resize(tuple(config.MODEL.IMAGE_SIZE), Image.Resampling.BILINEAR)
    if config.DATASET.FLIP and source.random() < 0.5:
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return crop
