"""COCO images -> one float32 [1, 3, H, W] .npy per image, resized to one of a few sizes ("gears").

    python -m preprocess.pose --output prep_dir --output_flip prep_flip_dir
    python -m preprocess.pose --cfg higher_hrnet_w32_512 --dataset data/coco --output prep_dir --gears gears.yaml

Reads    annotations/person_keypoints_<split>.json (only ids, names and sizes) and images/<split>/, or with --images
         files and directories of files, which get the ids 1, 2, …; from the config DATASET.INPUT_SIZE and TEST (the
         split), INPUT.GEARS, MEAN and STD
Writes   settings.json first, <stem>.npy, rejected.json, and manifest.json last; with --output_flip also a directory of
         flipped inputs; a stamp beside each directory (hrnet/io/stamp.py)
Int8     --calibration N prepares N images for the calibration of an int8 model instead: those with the smallest
         hashes of their names, from the split DATASET.TRAIN if it exists, otherwise from the images to evaluate
Resumes  a rerun with the same settings and images keeps the files that are complete
Pixels   with --input_dtype uint8 an input contains the resized RGB pixels [1, H, W, 3], and the model normalises them

Source: the model zoo's HigherHRNet_preprocess.py and, for the resize, lib/utils/transforms.py of
https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881. The inputs are bit for bit equal; files are
named after the images instead of 0, 1, 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional, Union

import cv2
import numpy as np
from yacs.config import CfgNode

from hrnet import gears, images
from hrnet.cli import UserError, command, first_few, plural
from hrnet.config import add_cfg_argument, load_config
from hrnet.config_checks import check_decodable
from hrnet.datasets import CocoSet, files_sha256, find_coco
from hrnet.gears import Gear
from hrnet.io import tensor_names, tensors
from hrnet.io.coco import CocoImage, annotation_path
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.stamp import data_state
from hrnet.schemas import POSE
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

MAX_SIDE = 32767  # pixels; cv2.warpAffine supports only smaller images and inputs


def write_inputs(task: Task, mean: list[float], std: list[float], dtype: str) -> Union[Done, Rejection]:
    """Write the input of one image, and the flipped input if requested, unless the files are already complete."""
    image = task.image
    if not task.missing_bytes():
        return Done(image.width, image.height, kept=True)
    pixels = read_image(task.source, decode.decode_as_cv2)
    if isinstance(pixels, Rejection):
        return pixels
    height, width = pixels.shape[:2]
    if (width, height) != (image.width, image.height):
        return Rejection(images.wrong_size((width, height), (image.width, image.height), task.source))
    inputs = prepare(pixels, image, mean, std, dtype, flip=len(task.targets) > 1)
    if isinstance(inputs, Rejection):
        return inputs
    for target, values in zip(task.targets, inputs):
        tensors.write_npy(target, values)
    return Done(width, height, kept=False)


def prepare(
    pixels: np.ndarray, image: InputImage, mean: list[float], std: list[float], dtype: str, flip: bool
) -> Union[list[np.ndarray], Rejection]:
    """Convert a decoded image, uint8 [H, W, 3], to the input and, with `flip`, the flipped input, with the batch axis.
    `image`: its shape, center and scale give the image's position in the input."""
    (height, width), (input_height, input_width) = pixels.shape[:2], image.sides()
    if max(width, height, input_width, input_height) >= MAX_SIDE:
        sizes = f"{width} x {height} pixels for an input of {input_width} x {input_height}"
        return Rejection(f"too large for OpenCV: {sizes}")
    assert image.center is not None and image.scale is not None
    resized = images.resize_align(pixels, image.center, image.scale, (input_width, input_height))
    passes = [resized, cv2.flip(resized, 1)] if flip else [resized]
    return [images.to_input(each, mean, std, dtype)[None] for each in passes]


def align(stem: str, source: str, image: CocoImage, gear: Gear, dtype: str) -> InputImage:
    """The manifest entry of an image, with its position in an input of the size `gear`."""
    height, width = gear
    center, scale = images.alignment(image.width, image.height, (width, height))
    shape = tensor_names.input_shape(dtype, width, height)
    return InputImage(stem, source, None, image.width, image.height, shape, image.image_id, center, scale)


def to_task(stem: str, source: str, image: CocoImage, gear: Gear, dtype: str, root: Path, outputs: list[Path]) -> Task:
    """The task for one image, with its manifest entry. `stem`: file name of the input without its suffix."""
    entry = align(stem, source, image, gear, dtype)
    size = tensor_names.NPY_HEADER + math.prod(entry.shape) * np.dtype(dtype).itemsize
    return Task(entry, root / source, tuple(output / f"{stem}.npy" for output in outputs), size)


def choose_gears(listed: dict[str, CocoImage], short: int, offered: list[Gear], where: Path) -> list[Gear]:
    """Choose a gear for each image, and print which images are longer than the longest gear: both ends are cut off.
    Raises UserError if no gear has the orientation of an image."""
    chosen = [gears.choose(image.width, image.height, short, offered) for image in listed.values()]
    unfit = [source for source, gear in zip(listed, chosen) if gear is None]
    if unfit:
        what = "no portrait (or no landscape) gear for these images"
        raise UserError(what, where=where, found=first_few(unfit), hint="run make gears")
    fit = [gear for gear in chosen if gear is not None]
    full_sizes = [gears.whole_size(image.width, image.height, short) for image in listed.values()]
    cut = [source for source, gear, full in zip(listed, fit, full_sizes) if gear < full]
    if cut:
        count = plural(len(cut), "image is", "images are")
        print(f"{where}: {count} longer than the longest gear, both ends are cut off: {first_few(cut)}")
    return fit


class Selection(NamedTuple):
    """The images to prepare, and the values for their records."""

    images: dict[str, CocoImage]  # by source, a path relative to `root`
    root: Path
    manifest: Manifest  # without images
    rejected: Mapping[str, str]
    state: dict[str, Optional[list[int]]]  # of the data set


def training_files(root: Path, train: str) -> list[Path]:
    """The annotation file and the image directory of the split `train`."""
    return [annotation_path(root, train), root / "images" / train]


def find_calibration_images(root: Path, train: str, test: str, count: int) -> CocoSet:
    """`count` images to calibrate an int8 model, from the split `train` if it exists, else from `test`. Unlisted,
    missing and broken files are not reported."""
    found = find_coco(root, train if all(path.exists() for path in training_files(root, train)) else test)
    images = choose_calibration(found.images, count, root)
    return dataclasses.replace(found, images=images, unlisted=[], absent=[], broken={})


def coco_images(args: argparse.Namespace, config: CfgNode) -> Selection:
    """The images of --dataset."""
    split = config.DATASET.TEST
    if args.calibration:
        dataset = find_calibration_images(args.dataset, config.DATASET.TRAIN, split, args.calibration)
    else:
        dataset = find_coco(args.dataset, split)
    if dataset.absent:
        count = plural(len(dataset.absent), "listed image does", "listed images do")
        print(f"{dataset.index}: {count} not exist: {first_few(dataset.absent)}")
    if dataset.unlisted:
        count = plural(len(dataset.unlisted), "unlisted file is", "unlisted files are")
        print(f"{dataset.index}: {count} ignored: {first_few(dataset.unlisted)}")
    listed, listing = choose_images(dataset.images, args)
    part = dataclasses.replace(dataset, images=listed)
    manifest = empty_manifest("coco", config, part.sha256(), args.input_dtype, "npy", classes=1)
    manifest = add_listing(manifest, args.shard, listing, len(dataset.images) + len(dataset.absent))
    rejected = {f"images/{split}/{name}": reason for name, reason in dataset.broken.items()}
    lists = dataset.lists()
    if args.calibration:  # images added to the split TRAIN are used in the next run
        lists += training_files(args.dataset, config.DATASET.TRAIN)
    return Selection(listed, dataset.root, manifest, rejected, data_state(dataset.root, lists, listed))


def plain_images(args: argparse.Namespace, config: CfgNode) -> Selection:
    """The images of --images; their sizes are read from the files."""
    images: dict[str, CocoImage] = {}
    rejected: dict[str, str] = {}
    for number, source in enumerate(choose_plain_images(args), 1):
        size = read_image(Path(source), decode.size_of)
        if isinstance(size, Rejection):
            rejected[source] = size.reason
        else:
            images[source] = CocoImage(number, source, *size)
    facts = {source: f"{image.image_id} {image.width} {image.height}" for source, image in images.items()}
    manifest = empty_manifest("images", config, files_sha256("", facts), args.input_dtype, "npy", classes=1)
    return Selection(images, Path(), manifest, rejected, {})


def run(args: argparse.Namespace) -> None:
    """Preprocess the images of the data set."""
    config = load_config(args.cfg, POSE)
    check_decodable(config, args.cfg)
    if args.output_flip == args.output:
        raise UserError("--output and --output_flip are the same directory", where=args.output)
    short = gears.short_side(config.DATASET.INPUT_SIZE, args.cfg)
    offered = gears.read_gears(args.gears, short) if args.gears else [(h, w) for h, w in config.INPUT.GEARS]
    found = (plain_images if args.images else coco_images)(args, config)
    listed = found.images
    chosen = choose_gears(listed, short, offered, args.gears or args.cfg)

    dtype, outputs = args.input_dtype, [args.output] + ([args.output_flip] if args.output_flip else [])
    stems = tensor_names.safe_stems([image.file_name for image in listed.values()])
    tasks = [
        to_task(stem, source, image, gear, dtype, found.root, outputs)
        for stem, (source, image), gear in zip(stems, listed.items(), chosen)
    ]
    cv2.setNumThreads(1)  # before the workers are forked: OpenCV's threads do not survive a fork
    run_tasks(
        "preprocess.pose",
        args,
        outputs,
        found.manifest,
        tasks,
        partial(write_inputs, mean=config.INPUT.MEAN, std=config.INPUT.STD, dtype=dtype),
        code=(__file__, decode.__file__, images.__file__, gears.__file__),
        rejected=found.rejected,
        state=found.state,
        decoders=[f"opencv {cv2.__version__}"],
        gears=[list(gear) for gear in offered],
    )


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocess.pose", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, default="higher_hrnet_w32_512")
    add_images_argument(parser, "COCO directory (%(default)s)", Path("data/coco"))
    parser.add_argument("--output", type=Path, required=True, help="output directory for the inputs")
    parser.add_argument("--output_flip", type=Path, help="output directory for flipped inputs (default: none)")
    parser.add_argument("--gears", type=Path, help="YAML file of data.gears that replaces INPUT.GEARS of the config")
    add_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
