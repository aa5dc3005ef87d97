"""Pictures of people in COCO's layout -> batches for the training of a pose net, each picture moved anew in each epoch.

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/dataset/COCODataset.py and COCOKeypoints.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.images import normalise, normalise_table
from hrnet.io.coco import annotation_path, read_annotations, read_images
from hrnet.pose.joints import COUNT, MIRRORED
from train import pose_augment, pose_targets
from train.pose_loss import TargetBatch

Annotation = dict[str, Any]  # COCO's


class Picture(NamedTuple):
    path: Path
    annotations: list[Annotation]


def example(
    pixels: np.ndarray, annotations: list[Annotation], motion: pose_augment.Motion, config: CfgNode
) -> tuple[np.ndarray, list[pose_targets.Targets]]:
    """A picture uint8 [H, W, 3], moved, as the net's input float32 [3, side, side], and the targets of each output."""
    settings, side = config.DATASET, config.DATASET.INPUT_SIZE
    people = pose_targets.people_of(annotations)
    joints = pose_targets.joints_of(people, COUNT)
    judged = pose_targets.judged_of(annotations, pixels.shape[1], pixels.shape[0])
    targets = []
    for i in range(len(config.LOSS.WITH_AE_LOSS)):
        cells = side // 4 * 2**i
        moved = pose_augment.moved_joints(joints, motion, cells, MIRRORED)
        sigmas = pose_targets.sigmas_of(people, settings, cells, motion.stretch)
        maps = pose_targets.heatmaps(moved, sigmas, cells)
        places = pose_targets.tag_places(moved, cells, settings.MAX_NUM_PEOPLE, config.MODEL.TAG_PER_JOINT)
        targets.append(pose_targets.Targets(maps, pose_augment.moved_mask(judged, motion, cells), places))
    picture = np.ascontiguousarray(pose_augment.moved_picture(pixels, motion, side))
    return normalise(picture, normalise_table(config.INPUT.MEAN, config.INPUT.STD)), targets


def batches(
    pictures: list[Picture], seed: int, epoch: int, config: CfgNode
) -> Iterator[tuple[torch.Tensor, list[TargetBatch]]]:
    """Inputs float32 [N, 3, side, side] and the targets of each output: all pictures in the epoch's order, but for what
    fills no batch (batch norm wants full ones)."""
    order = np.random.default_rng((seed, epoch)).permutation(len(pictures))
    size = config.TRAIN.IMAGES_PER_GPU
    for first in range(0, len(order) - size + 1, size):
        examples = []
        for number in order[first : first + size].tolist():
            pixels = open_picture(pictures[number].path)
            rng = np.random.default_rng((seed, epoch, number))
            motion = pose_augment.random_motion(rng, pixels.shape[1], pixels.shape[0], config.DATASET)
            examples.append(example(pixels, pictures[number].annotations, motion, config))
        inputs, targets = zip(*examples)
        stacked = [[torch.from_numpy(np.stack(parts)) for parts in zip(*each)] for each in zip(*targets)]
        yield torch.from_numpy(np.stack(inputs)), [TargetBatch(*parts) for parts in stacked]


def open_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3], RGB; UserError when the file is missing or unreadable."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError("no such image", where=path, hint="is --dataset a whole COCO folder?") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"is no readable image: {error}", where=path) from None


def read_pictures(dataset: Path, split: str) -> list[Picture]:
    """The pictures of a split on which somebody is annotated, in natural order of their names."""
    index = annotation_path(dataset, split)
    images = read_images(index)
    annotated: defaultdict[int, list[Annotation]] = defaultdict(list)
    for entry in read_annotations(index, outlines=True)["annotations"]:
        annotated[entry["image_id"]].append(entry)
    folder = dataset / "images" / split
    found = [(folder / image.file_name, annotated.get(image.image_id, [])) for image in images]
    return [Picture(path, people) for path, people in found if people]
