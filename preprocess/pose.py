"""COCO images -> one input for each, [1, 3, H, W] float32 as npy, resized and aligned to one of a few sizes.

    python -m preprocess.pose --output prep_dir --output_flip prep_flip_dir
    python -m preprocess.pose --cfg higher_hrnet_w32_512 --dataset data/coco --output prep_dir --gears gears.yaml

Reads    annotations/person_keypoints_<split>.json (only ids, names and sizes), images/<split>; DATASET.INPUT_SIZE and
         TEST (the split), INPUT.GEARS, MEAN and STD of the config
Writes   settings.json first, <stem>.npy, rejected.json, and manifest.json last; the same, flipped, to --output_flip;
         a stamp beside each directory (hrnet/io/stamp.py)
Resumes  files that an earlier run with equal settings on the same images finished are kept
Pixels   with --input_dtype uint8 an input holds the resized RGB pixels, [1, H, W, 3]: the model normalises them itself

Source: the model zoo's HigherHRNet_preprocess.py and, for the resize, lib/utils/transforms.py of
https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881. Inputs equal theirs to the bit; a file is
named after its image, not 0, 1, 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from functools import partial
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from hrnet import gears, images
from hrnet.cli import UserError, command, first_few
from hrnet.config import add_cfg_argument, load_config
from hrnet.datasets import find_coco
from hrnet.gears import Gear
from hrnet.io import tensors
from hrnet.io.coco import CocoImage
from hrnet.io.manifest import InputImage
from hrnet.io.stamp import data_state
from hrnet.schemas import POSE
from preprocess import decode
from preprocess.folder import (
    Done,
    Rejection,
    Task,
    add_arguments,
    choose_images,
    empty_manifest,
    fill,
    of_listing,
    read_image,
)

MAX_SIDE = 32767  # pixels; cv2.warpAffine needs sides below it, of the image and of the input


def write_inputs(task: Task, mean: list[float], std: list[float], dtype: str) -> Union[Done, Rejection]:
    """Write the inputs of one image unless they are there in full."""
    image = task.image
    if not task.missing_bytes():
        return Done(image.width, image.height, kept=True)
    pixels = read_image(task.source, decode.decode_as_cv2)
    if isinstance(pixels, Rejection):
        return pixels
    height, width = pixels.shape[:2]
    if (width, height) != (image.width, image.height):
        return Rejection(images.wrong_size((width, height), (image.width, image.height), task.source))
    input_height, input_width = image.sides()
    if max(width, height, input_width, input_height) >= MAX_SIDE:
        sizes = f"{width} x {height} pixels for an input of {input_width} x {input_height}"
        return Rejection(f"{sizes}: too long for OpenCV")
    assert image.center is not None and image.scale is not None
    resized = images.resize_align(pixels, image.center, image.scale, (input_width, input_height))
    for target, each in zip(task.targets, (resized, cv2.flip(resized, 1))):
        tensors.write_npy(target, images.to_input(each, mean, std, dtype)[None])
    return Done(width, height, kept=False)


def to_task(stem: str, source: str, image: CocoImage, gear: Gear, dtype: str, root: Path, outputs: list[Path]) -> Task:
    """The task of one image of the annotation file, and its entry in the manifest."""
    height, width = gear
    center, scale = images.alignment(image.width, image.height, (width, height))
    shape = tensors.input_shape(dtype, width, height)
    entry = InputImage(stem, source, None, image.width, image.height, shape, image.image_id, center, scale)
    size = tensors.NPY_HEADER + math.prod(shape) * np.dtype(dtype).itemsize
    return Task(entry, root / source, tuple(output / f"{stem}.npy" for output in outputs), size)


def choose_gears(listed: dict[str, CocoImage], short: int, offered: list[Gear], where: Path) -> list[Gear]:
    """The gear of each image; reports images that are longer than the longest gear."""
    chosen = [gears.choose(image.width, image.height, short, offered) for image in listed.values()]
    unfit = [source for source, gear in zip(listed, chosen) if gear is None]
    if unfit:
        what = "no portrait (or no landscape) gear for these images"
        raise UserError(what, where=where, found=first_few(unfit), hint="run make gears")
    fit = [gear for gear in chosen if gear is not None]
    wholes = [gears.whole_size(image.width, image.height, short) for image in listed.values()]
    cut = [source for source, gear, whole_size in zip(listed, fit, wholes) if gear < whole_size]
    if cut:
        print(f"{where}: {len(cut)} images are longer than the longest gear and lose both ends: {first_few(cut)}")
    return fit


def run(args: argparse.Namespace) -> None:
    """Write the inputs of the data set's images, and the flipped ones to --output_flip."""
    config = load_config(args.cfg, POSE)
    if list(config.TEST.SCALE_FACTOR) != [1]:
        raise UserError("TEST.SCALE_FACTOR", where=args.cfg, expected="[1]: one size", found=config.TEST.SCALE_FACTOR)
    if args.output_flip == args.output:
        raise UserError("--output and --output_flip are the same directory", where=args.output)
    short = gears.short_side(config.DATASET.INPUT_SIZE, args.cfg)
    offered = gears.read_gears(args.gears, short) if args.gears else [(h, w) for h, w in config.INPUT.GEARS]
    dataset = find_coco(args.dataset, config.DATASET.TEST)
    if dataset.absent:
        print(f"{dataset.index}: {len(dataset.absent)} images are absent (a subset): {first_few(dataset.absent)}")
    if dataset.unlisted:
        print(f"{dataset.index}: {len(dataset.unlisted)} files are not listed, left out: {first_few(dataset.unlisted)}")
    listed, listing = choose_images(dataset.images, args)
    part = dataclasses.replace(dataset, images=listed)
    chosen = choose_gears(listed, short, offered, args.gears or args.cfg)

    dtype, outputs = args.input_dtype, [args.output] + ([args.output_flip] if args.output_flip else [])
    stems = tensors.safe_stems([image.file_name for image in listed.values()])
    tasks = [
        to_task(stem, source, image, gear, dtype, dataset.root, outputs)
        for stem, (source, image), gear in zip(stems, listed.items(), chosen)
    ]
    manifest = empty_manifest("coco", config, part.sha256(), dtype, "npy", classes=1)
    cv2.setNumThreads(1)  # here and not in the workers: OpenCV would wait for threads that a fork does not copy
    fill(
        "preprocess.pose",
        args,
        outputs,
        of_listing(manifest, args.shard, listing, len(dataset.images) + len(dataset.absent)),
        tasks,
        partial(write_inputs, mean=config.INPUT.MEAN, std=config.INPUT.STD, dtype=dtype),
        code=(__file__, decode.__file__, images.__file__, gears.__file__),
        rejected={f"images/{config.DATASET.TEST}/{name}": reason for name, reason in dataset.broken.items()},
        state=data_state(dataset.root, dataset.lists(), listed),
        decoders=[f"opencv {cv2.__version__}"],
        gears=[list(gear) for gear in offered],
    )


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocess.pose", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, default="higher_hrnet_w32_512")
    parser.add_argument("--dataset", type=Path, default=Path("data/coco"), help="COCO folder (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="directory to write the inputs to")
    parser.add_argument("--output_flip", type=Path, help="directory for the flipped inputs (default: none are made)")
    parser.add_argument("--gears", type=Path, help="a YAML of data.gears to use instead of the config's INPUT.GEARS")
    add_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
