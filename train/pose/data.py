"""Images of people in COCO's layout with their training targets; each epoch augments them differently.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/COCODataset.py and COCOKeypoints.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from hrnet.class_folders import LISTED
from hrnet.cli import UserError, first_few, plural
from hrnet.datasets import find_coco
from hrnet.images import normalise, normalise_table, open_image, wrong_size
from hrnet.io.coco import annotation_path
from hrnet.pose.joints import COUNT, FLIPPED
from train.batches import SEED, Samples
from train.pose import augment, targets


class AnnotatedImages(Samples):
    """The images of split DATASET.TRAIN that have an annotated person, in natural order of their names. Each sample is
    the network's input, float32 [3, side, side], and the targets of each output."""

    def __init__(self, dataset: Path, config: CfgNode) -> None:
        cv2.setNumThreads(1)  # the worker processes share the cores
        split = config.DATASET.TRAIN
        self.config, self.source = config, annotation_path(dataset, split)
        annotations: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)  # COCO's, by image id
        found = find_coco(dataset, split, segmentations=True)
        for entry in found.annotations.people:
            annotations[entry["image_id"]].append(entry)
        self.images = [image for image in found.annotations.images if image.image_id in annotations]
        folder = dataset / "images" / split
        missing = {**dict.fromkeys(found.absent, "no such image"), **found.broken}
        missing = {image.file_name: missing[image.file_name] for image in self.images if image.file_name in missing}
        if missing:
            names = first_few((f"{name}: {reason}" for name, reason in missing.items()), LISTED)
            hint = "add the images, or remove their annotations"
            what = f"{plural(len(missing), 'image with people is', 'images with people are')} missing"
            raise UserError(what, where=folder, found=names, hint=hint)
        self.files = [folder / image.file_name for image in self.images]
        self.annotations = [annotations[image.image_id] for image in self.images]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, epoch: int, index: int) -> tuple[torch.Tensor, list[targets.Targets]]:
        path, listed = self.files[index], self.images[index]
        pixels = np.asarray(open_image(path).convert("RGB"))
        found, expected = (pixels.shape[1], pixels.shape[0]), (listed.width, listed.height)
        if found != expected:
            raise UserError(wrong_size(found, expected, path), where=path, hint=f"correct {self.source}")
        rng = np.random.default_rng((SEED, epoch, index))
        transform = augment.random_transform(rng, pixels.shape[1], pixels.shape[0], self.config.DATASET)
        return example(pixels, self.annotations[index], transform, self.config)

    def sha256(self) -> str:
        lines = (f"{image.file_name} {json.dumps(people)}\n" for image, people in zip(self.images, self.annotations))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def example(
    pixels: np.ndarray, annotations: list[dict[str, Any]], transform: augment.Transform, config: CfgNode
) -> tuple[torch.Tensor, list[targets.Targets]]:
    """The transformed image (`pixels`: uint8 [H, W, 3]) as float32 [3, side, side], and the targets of each output."""
    settings, side = config.DATASET, config.DATASET.INPUT_SIZE
    people = targets.labelled_people(annotations)
    joints = targets.joints_of(people, COUNT)
    mask = targets.loss_mask(annotations, pixels.shape[1], pixels.shape[0])
    found = []
    for i in range(len(config.LOSS.WITH_AE_LOSS)):
        cells = side // 4 * 2**i
        moved = augment.transform_joints(joints, transform, cells, FLIPPED)
        sigmas = targets.sigmas_of(people, settings, cells, transform.stretch)
        maps = targets.heatmaps(moved, sigmas, cells)
        indices = targets.tag_indices(moved, cells, settings.MAX_NUM_PEOPLE, config.MODEL.TAG_PER_JOINT)
        arrays = (maps, augment.warp_mask(mask, transform, cells), indices)
        found.append(targets.Targets(*map(torch.from_numpy, arrays)))
    image = np.ascontiguousarray(augment.warp_image(pixels, transform, side))
    return torch.from_numpy(normalise(image, normalise_table(config.INPUT.MEAN, config.INPUT.STD))), found
