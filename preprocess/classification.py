"""ImageNet images -> one normalised float32 [3, H, W] .bin per image, an info file and a manifest.

    python -m preprocess.classification --cfg hrnet_w18 --dataset data/imagenet --output prep_dataset
    python -m preprocess.classification hrnet /data/imagenet/val ./prep_dataset

Reads    a data set in one of the layouts of hrnet/datasets.py, or with --images: files and directories of files
         without labels; INPUT, MODEL.IMAGE_SIZE and NUM_CLASSES of the config
Writes   settings.json first, <stem>.bin, inputs.info, rejected.json, and manifest.json last; a stamp beside the
         directory (hrnet/io/stamp.py)
Int8     --calibration N prepares N images for the calibration of an int8 model instead: those with the smallest
         hashes of their names, from train/ if it has images, which need no labels, else from the labelled images to
         evaluate
Locks    <output>_lock, until the last worker process has ended
Resumes  a rerun with the same settings and images keeps the files that are complete
Pixels   with --input_dtype uint8 a .bin contains the cropped RGB pixels [H, W, 3], and the model normalises them

The inputs equal those of the model zoo's imagenet_torch_preprocess.py bit for bit (Pillow, EXIF orientation ignored),
or with INPUT.RESIZER cv2 those that PaddleClas computes from the same decoded pixels. The second command above uses the
three arguments of the model zoo's script.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import cv2
import numpy as np
from yacs.config import CfgNode

from hrnet import calibration, images, resample
from hrnet.cli import command
from hrnet.config import add_cfg_argument, load_config
from hrnet.datasets import Dataset, files_sha256, find_images
from hrnet.images import Transform
from hrnet.io import tensor_names, tensors
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.stamp import data_state
from hrnet.layouts import root_of
from hrnet.schemas import CLASSIFIERS
from hrnet.tars import Source
from preprocess import decode
from preprocess.folder import (
    Done,
    Rejection,
    Task,
    add_arguments,
    add_images_argument,
    add_listing,
    choose_calibration,
    choose_images,
    choose_plain_images,
    empty_manifest,
    read_image,
    run_tasks,
)

ZOO_MODELS = {"hrnet": "hrnet_w18"}  # the model zoo's name for its only model


def write_input(task: Task, transform: Transform, dtype: str) -> Union[Done, Rejection]:
    """Write one input, unless the file is already complete."""
    if not task.missing_bytes():
        size = read_image(task.source, decode.size_of)
        return size if isinstance(size, Rejection) else Done(*size, kept=True)
    pixels = read_image(task.source, decode.decode)
    if isinstance(pixels, Rejection):
        return pixels
    values = prepare(pixels, transform, dtype)
    if isinstance(values, Rejection):
        return values
    tensors.write_bin(task.targets[0], values)
    height, width, _ = pixels.shape
    return Done(width, height, kept=False)


def prepare(pixels: np.ndarray, transform: Transform, dtype: str) -> Union[np.ndarray, Rejection]:
    """Convert a decoded image, uint8 [H, W, 3], to the input, without the batch axis."""
    height, width, _ = pixels.shape
    if math.prod(resized := transform.resized(width, height)) > images.MAX_PIXELS:
        sizes = f"{width} x {height} pixels would be resized to {resized[0]} x {resized[1]}"
        return Rejection(f"too long and thin: {sizes}, more than {images.MAX_PIXELS} pixels")
    return transform.to_input(pixels, dtype)


class Selection(NamedTuple):
    """The images to prepare, and the values for their records."""

    labels: Mapping[str, Optional[int]]  # source -> class index; None without labels
    find: Callable[[str], Source]
    manifest: Manifest  # without images
    rejected: Mapping[str, str]
    state: dict[str, Optional[list[int]]]  # of the data set


def labelled_images(args: argparse.Namespace, config: CfgNode) -> Selection:
    """The images of --dataset."""
    classes = config.MODEL.NUM_CLASSES
    dataset = find_images(args.dataset, classes)
    dataset.check_class_names(config.INPUT.CLASS_NAMES)
    for note in dataset.notes():
        print(f"{dataset.index}: {note}")
    labels, listing = choose_images(dataset.labels, args, dataset.ends)
    part = dataclasses.replace(dataset, labels=labels)
    manifest = empty_manifest("imagenet", config, part.sha256(), args.input_dtype, "bin", classes)
    rejected = {**dict.fromkeys(dataset.unlabelled, f"no label in {dataset.index.name}"), **dataset.broken}
    manifest = add_listing(manifest, args.shard, listing, len(dataset.labels) + len(dataset.absent))
    return Selection(labels, dataset.find, manifest, rejected, data_state(dataset.root, dataset.lists(), labels))


def calibration_images(args: argparse.Namespace, config: CfgNode) -> Selection:
    """Images of --dataset to calibrate an int8 model, with nothing reported about the others."""
    root = args.dataset.parent if args.dataset.is_file() else root_of(args.dataset)
    classes, train = config.MODEL.NUM_CLASSES, root / calibration.TRAIN
    training = dict.fromkeys(calibration.choose_training_images(root, args.calibration), 0)
    dataset = Dataset(root, training, [], [], train) if training else find_images(args.dataset, classes)
    labels = choose_calibration(dataset.labels, args.calibration, dataset.index)
    labels, _ = choose_images(labels, args)
    part = dataclasses.replace(dataset, labels=labels)
    manifest = empty_manifest("images", config, part.sha256(), args.input_dtype, "bin", classes)
    # train/ is always listed: images that are added to it are used in the next run.
    lists = [train] if training else [train, *dataset.lists()]
    return Selection(dict.fromkeys(labels), dataset.find, manifest, {}, data_state(root, lists, labels))


def plain_images(args: argparse.Namespace, config: CfgNode) -> Selection:
    """The images of --images."""
    labels = dict.fromkeys(choose_plain_images(args))
    sha256 = files_sha256("", labels)
    manifest = empty_manifest("images", config, sha256, args.input_dtype, "bin", config.MODEL.NUM_CLASSES)
    return Selection(labels, Path, manifest, {}, {})


def run(args: argparse.Namespace) -> None:
    """Preprocess the images of the data set."""
    config = load_config(args.cfg, *CLASSIFIERS)
    images_of = plain_images if args.images else calibration_images if args.calibration else labelled_images
    found = images_of(args, config)
    dtype, transform, labels = args.input_dtype, Transform.of(config), found.labels
    shape = tensor_names.input_shape(dtype, transform.width, transform.height)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    tasks = [
        Task(
            InputImage(stem, source, label, 0, 0, shape),
            found.find(source),
            (args.output / f"{stem}.bin",),
            size,
        )
        for (source, label), stem in zip(labels.items(), tensor_names.safe_stems(list(labels)))
    ]
    cv2.setNumThreads(1)  # before the workers are forked: OpenCV's threads do not survive a fork
    run_tasks(
        "preprocess.classification",
        args,
        [args.output],
        found.manifest,
        tasks,
        partial(write_input, transform=transform, dtype=dtype),
        code=(__file__, decode.__file__, images.__file__, resample.__file__),
        rejected=found.rejected,
        state=found.state,
        decoders=[f"opencv {cv2.__version__}"] if transform.resizer == "cv2" else [],
    )


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) >= 3 and not any(word.startswith("-") for word in words[:3]):  # the model zoo's three arguments
        cfg, dataset, output = words[:3]
        words[:3] = ["--cfg", ZOO_MODELS.get(cfg, cfg), "--dataset", dataset, "--output", output]
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.classification",
        description=__doc__.splitlines()[0],
        epilog="The first three arguments can also be given without flags: CFG DATASET OUTPUT.",
    )
    add_cfg_argument(parser)
    layouts = "ImageNet (val/ with val_label.txt, class directories or val_list.txt), tar files, or a list of tar files"
    add_images_argument(parser, layouts)
    parser.add_argument("--output", type=Path, required=True, help="output directory for the inputs")
    add_arguments(parser)
    return parser.parse_args(words)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
