"""ImageNet photographs -> one normalised float32 [3, H, W] bin for each image, an info file and a manifest.

    python -m preprocess.classification hrnet_w18 data/imagenet build/hrnet_w18/prep/imagenet-float32

Reads    a dataset in one of the layouts of `hrnet.datasets`, and the config's INPUT and MODEL.IMAGE_SIZE
Writes   settings.json first, <stem>.bin, inputs.info, rejected.json, and manifest.json last
Locks    <output>_lock, until its last worker has gone
Resumes  files that an earlier run with equal settings on the same images finished are kept
Pixels   with --input uint8 a bin holds the cropped RGB pixels, [H, W, 3], for a model that normalises them itself

The arithmetic is bit for bit that of the seed's imagenet_torch_preprocess.py (PIL, no EXIF rotation), which took the
same three arguments; its faults are not ours: workers that lose exceptions, a cap of 50,000 files, 100 processes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import PIL
import simplejpeg

from hrnet import images, resample
from hrnet.cli import UserError, command, cores, first_few, integer
from hrnet.config import config_path, config_sha256, load_config
from hrnet.datasets import Dataset, find_images
from hrnet.images import normalise, normalise_table, resize_and_crop, short_side_size
from hrnet.io import tensors
from hrnet.io.files import check_free_disk, locked, make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.summary import write_info
from hrnet.schemas import CLASSIFICATION
from hrnet.workers import map_files
from preprocess import decode
from preprocess.folder import Rejection, check_number, closing_line, read_image, record_rejected, start_folder

MAX_RESIZED = 178_956_970  # pixels; more than that Pillow refuses to decode, too
SEED_MODELS = {"hrnet": "hrnet_w18"}  # the seed's name of its one model


class Arithmetic(NamedTuple):
    """How pixels become an input tensor."""

    resize: int  # short side, pixels
    crop: tuple[int, int]  # width, height, pixels
    mean: tuple[float, ...]  # of R, G, B scaled to 0..1
    std: tuple[float, ...]
    dtype: str  # float32: normalised; uint8: the pixels

    @property
    def input_bytes(self) -> int:
        return 3 * self.crop[0] * self.crop[1] * np.dtype(self.dtype).itemsize


class Task(NamedTuple):
    source: Path
    target: Path

    def finished(self, arithmetic: Arithmetic) -> bool:
        """Whether an earlier run with these settings wrote the input; it stands under its name only when whole."""
        return self.target.exists() and self.target.stat().st_size == arithmetic.input_bytes


class Done(NamedTuple):
    width: int  # of the source, pixels
    height: int
    kept: bool  # an earlier run had finished it


def to_input(pixels: np.ndarray, arithmetic: Arithmetic, table: np.ndarray) -> np.ndarray:
    """RGB pixels uint8 [H, W, 3] as the network's float32 [3, H, W], or cropped as they are."""
    cropped = resize_and_crop(pixels, arithmetic.resize, *arithmetic.crop)
    return cropped if arithmetic.dtype == "uint8" else normalise(cropped, table)


def write_input(task: Task, arithmetic: Arithmetic) -> Union[Done, Rejection]:
    """Write one input unless a whole one is there."""
    if task.finished(arithmetic):
        size = read_image(task.source, decode.size_of)
        return size if isinstance(size, Rejection) else Done(*size, kept=True)
    pixels = read_image(task.source, decode.decode)
    if isinstance(pixels, Rejection):
        return pixels
    height, width, _ = pixels.shape
    if math.prod(resized := short_side_size((width, height), arithmetic.resize)) > MAX_RESIZED:
        told = f"{width} x {height} pixels would be resized to {resized[0]} x {resized[1]}"
        return Rejection(f"too long and thin: {told}, more than {MAX_RESIZED} pixels")
    table = normalise_table(arithmetic.mean, arithmetic.std)
    tensors.write_bin(task.target, to_input(pixels, arithmetic, table))
    return Done(width, height, kept=False)


def check_labels(dataset: Dataset, classes: int, cfg: Path) -> None:
    """Refuse labels outside the model's classes; tell of what a subset may mean."""
    outside = [f"{source} ({label})" for source, label in dataset.labels.items() if label >= classes]
    if outside:
        expected = f"0 to {classes - 1}, the classes of {cfg}"
        raise UserError("label outside the classes", where=dataset.index, expected=expected, found=first_few(outside))
    if dataset.absent:
        print(f"{dataset.index}: {len(dataset.absent)} labels have no image (a subset): {first_few(dataset.absent)}")
    if dataset.class_folders not in (0, classes):
        told = f"{dataset.class_folders} class folders for a model of {classes} classes"
        print(f"{dataset.index}: {told}; their places in the sorted list are taken as the indices")


def run(cfg: Path, folder: Path, output: Path, dtype: str, limit: int, max_rejected: int, workers: int) -> None:
    """Write the inputs of the images in `folder`, float32 or uint8. Raises WorkFailed when more than `max_rejected` of
    them cannot be read; the others are done by then, and rejected.json says why."""
    started = time.perf_counter()
    config = load_config(cfg, CLASSIFICATION)
    dataset = find_images(folder)
    check_labels(dataset, config.MODEL.NUM_CLASSES, cfg)
    width, height = config.MODEL.IMAGE_SIZE
    arithmetic = Arithmetic(
        config.INPUT.RESIZE, (width, height), tuple(config.INPUT.MEAN), tuple(config.INPUT.STD), dtype
    )
    shape, layout = tensors.input_shape(dtype, width, height), tensors.INPUT_LAYOUTS[dtype]
    sources = list(dataset.labels)[: limit or None]
    check_number(len(sources), folder)
    hashes = {"config_sha256": config_sha256(config), "index_sha256": dataset.sha256()}
    made_by = {
        "decoders": [f"pillow {PIL.__version__}", f"simplejpeg {simplejpeg.__version__}"],
        "code_sha256": [sha256_file(file) for file in (__file__, decode.__file__, images.__file__, resample.__file__)],
    }
    stems = tensors.safe_stems(sources)
    tasks = [Task(dataset.root / source, output / f"{stem}.bin") for source, stem in zip(sources, stems)]
    settings = {**hashes, **made_by, "limit": limit, "dtype": dtype, "layout": layout}
    make_folder(output.parent)
    with locked(f"{output}_lock"):
        start_folder(output, settings, {task.target.name for task in tasks})
        check_free_disk(output, sum(not task.finished(arithmetic) for task in tasks) * arithmetic.input_bytes)
        results = map_files(partial(write_input, arithmetic=arithmetic), tasks, workers)

        rejected = dict.fromkeys(dataset.unlabelled, f"no label in {dataset.index.name}")
        inputs = []
        for source, stem, result in zip(sources, stems, results):
            if isinstance(result, Rejection):
                rejected[source] = result.reason
                (output / f"{stem}.bin").unlink(missing_ok=True)  # of an earlier run that could read it
            else:
                label = dataset.labels[source]
                inputs.append(InputImage(stem, source, label, result.width, result.height, shape))
        write_info(output / "inputs.info", ((f"{output}/{image.stem}.bin", width, height) for image in inputs))
        record_rejected(output, rejected, len(inputs), max_rejected)
        Manifest(
            dataset="imagenet",
            config_sha256=hashes["config_sha256"],
            index_sha256=hashes["index_sha256"],
            dtype=dtype,
            layout=layout,
            suffix="bin",
            classes=config.MODEL.NUM_CLASSES,
            rejected=len(rejected),
            images=inputs,
        ).write(output / "manifest.json")
    kept = sum(isinstance(result, Done) and result.kept for result in results)
    print(closing_line(output, len(inputs), kept, time.perf_counter() - started))


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocess.classification", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name in configs/, or the path of a YAML; the seed's `hrnet` is hrnet_w18")
    parser.add_argument(
        "dataset", type=Path, help="ImageNet folder: val/ with val_label.txt, class folders, or val_list.txt"
    )
    parser.add_argument("output", type=Path, help="where the inputs go")
    parser.add_argument(
        "--input",
        choices=tensors.INPUT_LAYOUTS,
        default="float32",
        help="float32 [3, H, W], normalised, or uint8 [H, W, 3]: the pixels, for a model of atc.convert --input uint8",
    )
    parser.add_argument("--limit", type=integer(0), default=0, help="only the first N images in natural order; 0: all")
    parser.add_argument("--max-rejected", type=integer(0), default=0, help="how many unreadable images are allowed")
    parser.add_argument("--workers", type=integer(1), default=cores(), help="processes (default: all cores)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    cfg = config_path(SEED_MODELS.get(args.model, args.model))
    run(cfg, args.dataset, args.output, args.input, args.limit, args.max_rejected, args.workers)


if __name__ == "__main__":
    sys.exit(main())
