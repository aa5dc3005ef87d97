"""COCO photographs -> one input for each, [1, 3, H, W] float32 as npy, resized and aligned to one of a few sizes.

    python -m preprocess.pose --output prep_dir --output_flip prep_flip_dir
    python -m preprocess.pose --cfg higher_hrnet_w32_512 --dataset data/coco --output prep_dir --gears gears.yaml

Reads    annotations/person_keypoints_<split>.json (ids, names and sizes alone), images/<split>, and of the config
         DATASET.INPUT_SIZE and TEST (the split), INPUT.GEARS, MEAN and STD
Writes   settings.json first, <stem>.npy, rejected.json, and manifest.json last; the same in --output_flip, mirrored
Resumes  files that an earlier run with equal settings on the same images finished are kept
Pixels   with --input uint8 an input holds the resized RGB pixels, [1, H, W, 3], for a model that normalises them itself

Source: the seed's HigherHRNet_preprocess.py and, for the resize, HRNet/HigherHRNet-Human-Pose-Estimation aa23881,
lib/utils/transforms.py. Pixels and arithmetic are theirs to the bit; files are called as the images are, not 0, 1, 2.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Optional, Union

import cv2
import numpy as np
import PIL
import simplejpeg

from hrnet import gears, images
from hrnet.cli import UserError, command, cores, first_few, integer
from hrnet.config import config_path, config_sha256, load_config
from hrnet.datasets import CocoSet, find_coco
from hrnet.gears import Gear
from hrnet.io import tensors
from hrnet.io.coco import CocoImage
from hrnet.io.files import check_free_disk, locked, make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.schemas import POSE
from hrnet.workers import map_files
from preprocess import decode
from preprocess.folder import Rejection, check_number, closing_line, read_image, record_rejected, start_folder

MAX_SIDE = 32767  # pixels; cv2.warpAffine takes images and makes inputs whose sides are below


class Arithmetic(NamedTuple):
    """How resized pixels become an input tensor."""

    mean: tuple[float, ...]  # of R, G, B scaled to 0..1
    std: tuple[float, ...]
    dtype: str  # float32: normalised; uint8: the pixels


class Task(NamedTuple):
    source: Path
    image: CocoImage
    gear: Gear
    targets: tuple[Path, ...]  # the input, and its mirror image where it is wished for

    def missing_bytes(self, dtype: str) -> int:
        """What is still to be written, for an earlier run's input stands under its name only when whole."""
        height, width = self.gear
        size = tensors.NPY_HEADER + 3 * height * width * np.dtype(dtype).itemsize
        return sum(size for target in self.targets if not (target.exists() and target.stat().st_size == size))


def write_inputs(task: Task, arithmetic: Arithmetic) -> Union[bool, Rejection]:
    """Write the inputs of one image unless whole ones are there; whether they were."""
    if not task.missing_bytes(arithmetic.dtype):
        return True
    pixels = read_image(task.source, decode.decode_as_cv2)
    if isinstance(pixels, Rejection):
        return pixels
    height, width = pixels.shape[:2]
    if (width, height) != (task.image.width, task.image.height):
        told = f"the annotation file says {task.image.width} x {task.image.height}"
        return Rejection(f"{width} x {height} pixels, {told}")
    if max(width, height, *task.gear) >= MAX_SIDE:
        return Rejection(
            f"{width} x {height} pixels for an input of {task.gear[1]} x {task.gear[0]}: too long for OpenCV"
        )
    size = (task.gear[1], task.gear[0])
    resized = images.resize_align(pixels, *images.alignment(width, height, size), size)
    tensors.write_npy(task.targets[0], to_input(resized, arithmetic)[None])
    for target in task.targets[1:]:
        tensors.write_npy(target, to_input(cv2.flip(resized, 1), arithmetic)[None])
    return False


def to_input(pixels: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """uint8 RGB pixels [H, W, 3], of the input's size, as the network's float32 [3, H, W]; for uint8 as they are."""
    if arithmetic.dtype == "uint8":
        return pixels
    return images.normalise(pixels, images.normalise_table(arithmetic.mean, arithmetic.std))


def input_image(stem: str, source: str, task: Task, dtype: str) -> InputImage:
    """What the manifest says of one image."""
    width, height = task.image.width, task.image.height
    size = (task.gear[1], task.gear[0])
    center, scale = images.alignment(width, height, size)
    shape = tensors.input_shape(dtype, *size)
    return InputImage(stem, source, None, width, height, shape, task.image.image_id, center, scale)


def choose_gears(listed: dict[str, CocoImage], short: int, offered: list[Gear], where: Path) -> list[Gear]:
    """The gear of each image; tell of images that no gear holds whole."""
    chosen = [gears.choose(image.width, image.height, short, offered) for image in listed.values()]
    unfit = [source for source, gear in zip(listed, chosen) if gear is None]
    if unfit:
        what = "no gear stands upright, or none lies, as these images do"
        raise UserError(what, where=where, found=first_few(unfit), hint="run make gears")
    fit = [gear for gear in chosen if gear is not None]
    wholes = [gears.whole_size(image.width, image.height, short) for image in listed.values()]
    cut = [source for source, gear, whole_size in zip(listed, fit, wholes) if gear < whole_size]
    if cut:
        print(f"{where}: {len(cut)} images are longer than the longest gear and lose both ends: {first_few(cut)}")
    return fit


def tell_of_subset(dataset: CocoSet) -> None:
    if dataset.absent:
        print(f"{dataset.index}: {len(dataset.absent)} images are not there (a subset): {first_few(dataset.absent)}")
    if dataset.unlisted:
        few = first_few(dataset.unlisted)
        print(f"{dataset.index}: {len(dataset.unlisted)} files among the images are not listed, and left out: {few}")


def run(
    cfg: Path,
    folder: Path,
    output: Path,
    flipped: Optional[Path],
    gears_file: Optional[Path],
    dtype: str,
    limit: int,
    max_rejected: int,
    workers: int,
) -> None:
    """Write the inputs of the images in `folder`, and their mirror images to `flipped`. Raises WorkFailed when more
    than `max_rejected` of them cannot be read; the others are done by then, and rejected.json says why."""
    started = time.perf_counter()
    config = load_config(cfg, POSE)
    if list(config.TEST.SCALE_FACTOR) != [1]:
        raise UserError("TEST.SCALE_FACTOR", where=cfg, expected="[1]: one size", found=config.TEST.SCALE_FACTOR)
    if flipped == output:
        raise UserError("--output and --output_flip are one folder", where=output)
    short = gears.short_side(config.DATASET.INPUT_SIZE, cfg)
    offered = gears.read_gears(gears_file, short) if gears_file else [(h, w) for h, w in config.INPUT.GEARS]
    dataset = find_coco(folder, config.DATASET.TEST)
    tell_of_subset(dataset)
    listed = dict(islice(dataset.images.items(), limit or None))
    check_number(len(listed), folder)
    chosen = choose_gears(listed, short, offered, gears_file or cfg)

    places = [output] if flipped is None else [output, flipped]
    stems = tensors.safe_stems([image.file_name for image in listed.values()])
    tasks = [
        Task(dataset.root / source, image, gear, tuple(place / f"{stem}.npy" for place in places))
        for (source, image), gear, stem in zip(listed.items(), chosen, stems)
    ]
    hashes = {"config_sha256": config_sha256(config), "index_sha256": dataset.sha256()}
    settings = {
        **hashes,
        "decoders": [f"pillow {PIL.__version__}", f"simplejpeg {simplejpeg.__version__}", f"opencv {cv2.__version__}"],
        "code_sha256": [sha256_file(file) for file in (__file__, decode.__file__, images.__file__, gears.__file__)],
        "gears": [list(gear) for gear in offered],
        "limit": limit,
        "dtype": dtype,
        "layout": tensors.INPUT_LAYOUTS[dtype],
    }
    with contextlib.ExitStack() as locks:
        for place in places:
            make_folder(place.parent)
            locks.enter_context(locked(f"{place}_lock"))
            start_folder(place, {**settings, "flipped": place == flipped}, {f"{stem}.npy" for stem in stems})
        check_free_disk(output, sum(task.missing_bytes(dtype) for task in tasks))
        arithmetic = Arithmetic(tuple(config.INPUT.MEAN), tuple(config.INPUT.STD), dtype)
        cv2.setNumThreads(1)  # and not in the workers, where a fork leaves threads that OpenCV would wait for
        results = map_files(partial(write_inputs, arithmetic=arithmetic), tasks, workers)

        rejected = {source: result.reason for source, result in zip(listed, results) if isinstance(result, Rejection)}
        for task, result in zip(tasks, results):
            if isinstance(result, Rejection):
                for target in task.targets:
                    target.unlink(missing_ok=True)  # of an earlier run that could read it
        inputs = [
            input_image(stem, source, task, dtype)
            for stem, source, task in zip(stems, listed, tasks)
            if source not in rejected
        ]
        for place in places:
            record_rejected(place, rejected, len(inputs), max_rejected)
        for place in reversed(places):  # the one that speaks for both is the last
            Manifest(
                dataset="coco",
                config_sha256=hashes["config_sha256"],
                index_sha256=hashes["index_sha256"],
                dtype=dtype,
                layout=tensors.INPUT_LAYOUTS[dtype],
                suffix="npy",
                classes=1,
                rejected=len(rejected),
                images=inputs,
                flipped=place == flipped,
            ).write(place / "manifest.json")
    kept = sum(result is True for result in results)
    print(closing_line(output, len(inputs), kept, time.perf_counter() - started))


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocess.pose", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cfg", default="higher_hrnet_w32_512", help="a name in configs/, or the path of a YAML (%(default)s)"
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/coco"), help="COCO folder (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="where the inputs go")
    parser.add_argument("--output_flip", type=Path, help="where their mirror images go; without it none are made")
    parser.add_argument("--gears", type=Path, help="a YAML of data.gears in place of the config's INPUT.GEARS")
    parser.add_argument(
        "--input",
        choices=tensors.INPUT_LAYOUTS,
        default="float32",
        help="float32 [1, 3, H, W], normalised, or uint8 [1, H, W, 3]: the pixels, for a model that normalises them",
    )
    parser.add_argument("--limit", type=integer(0), default=0, help="only the first N images in natural order; 0: all")
    parser.add_argument("--max-rejected", type=integer(0), default=0, help="how many unreadable images are allowed")
    parser.add_argument("--workers", type=integer(1), default=cores(), help="processes (default: all cores)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(
        config_path(args.cfg),
        args.dataset,
        args.output,
        args.output_flip,
        args.gears,
        args.input,
        args.limit,
        args.max_rejected,
        args.workers,
    )


if __name__ == "__main__":
    sys.exit(main())
