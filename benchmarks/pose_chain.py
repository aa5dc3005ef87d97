"""The whole pose chain against the seed's way, with an upstream checkout: seconds an image of each part, and the ratio.

    python -m benchmarks.pose_chain --peer HigherHRNet-Human-Pose-Estimation --dataset data/coco --images 8 \\
        --onnx build/higher_hrnet_w32_512/model.onnx --model build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx

The seed's way: upstream's functions write a float32 npy and its mirror image for each photograph (the peer of
benchmarks.preprocess_pose_peer), a default onnxruntime session of the ONNX file before it is compiled, whose shapes are
free, infers both folders file by file into npy, and upstream's decoder reads those. Ours: preprocess.pose, infer.run,
infer.run --flip, postprocess.decode, each in a process of its own, on both cores. Images that upstream would give a
size that is no gear are left out. One after the other, once: the models take long enough. Where the people differ the
run fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnxruntime

from benchmarks.preprocess_pose_peer import PEER, SPLIT
from benchmarks.upstream_pose import UpstreamDecoder
from hrnet import gears
from hrnet.cli import UserError, WorkFailed, command, cores, integer
from hrnet.config import config_path, load_config
from hrnet.io.coco import annotation_path, read_images
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.pose.decode import to_image
from hrnet.schemas import POSE

PIXELS = 0.01  # of the photograph; a place is a quarter of the network's pixel or moves by one: no less means anything
SCORES = 1e-3
PARTS = ("preprocess", "infer", "decode")

Seconds = dict[str, float]


@contextmanager
def timed(seconds: Seconds, part: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begun


def subset(folder: Path, place: Path, cfg: Path, count: int) -> int:
    """A COCO folder at `place` of the first `count` images there that a gear holds as upstream does; how many."""
    config = load_config(cfg, POSE)
    offered = [(height, width) for height, width in config.INPUT.GEARS]
    images = make_folder(place / "images" / SPLIT)
    listed: list[dict[str, object]] = []
    for image in read_images(annotation_path(folder, SPLIT)):
        source = (folder / "images" / SPLIT / image.file_name).resolve()
        wished = gears.whole_size(image.width, image.height, config.DATASET.INPUT_SIZE)
        if len(listed) < count and source.is_file() and wished in offered:
            (images / image.file_name).symlink_to(source)
            size = {"width": image.width, "height": image.height}
            listed.append({"id": image.image_id, "file_name": image.file_name, **size})
    if not listed:
        raise UserError("holds no image of a gear's size", where=folder)
    index = annotation_path(place, SPLIT)
    make_folder(index.parent)
    index.write_text(json.dumps({"images": listed}), encoding="utf-8")
    return len(listed)


def call(*words: object) -> None:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise WorkFailed(f"{words[1]}: {done.stderr.strip()}")


def infer_plainly(onnx: Path, inputs: Path, outputs: Path) -> None:
    """What users write: one default session, file by file."""
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    os.makedirs(outputs)
    for file in sorted(inputs.glob("*.npy")):
        for number, output in enumerate(session.run(None, {name: np.load(file)})):
            np.save(outputs / f"{file.stem}_{number}.npy", output)


def seeds_way(peer: Path, onnx: Path, place: Path) -> tuple[Seconds, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Seconds by part, and keypoints (pixels of the input) and scores by stem."""
    upstream, seconds = UpstreamDecoder(peer), Seconds()
    people = {}
    prep, prep_flip, out, out_flip = (place / name for name in ("prep", "prep_flip", "out", "out_flip"))
    with timed(seconds, "preprocess"):
        call("-c", PEER, peer, place.parent / "coco/images" / SPLIT, prep, prep_flip)
    with timed(seconds, "infer"):
        infer_plainly(onnx, prep, out)
        infer_plainly(onnx, prep_flip, out_flip)
    with timed(seconds, "decode"):
        for stem in sorted(file.stem for file in prep.glob("*.npy")):
            pair = [[np.load(folder / f"{stem}_{number}.npy") for number in (0, 1)] for folder in (out, out_flip)]
            people[stem] = upstream.decode(*pair)
    return seconds, people


def our_way(cfg: Path, model: Path, place: Path) -> Seconds:
    """Seconds by part of the chain, whose files it leaves in `place`."""
    seconds = Seconds()
    prep, out = place / "prep", place / "out"
    with timed(seconds, "preprocess"):
        call("-m", "preprocess.pose", "--cfg", cfg, "--dataset", place.parent / "coco", "--output", prep)
    with timed(seconds, "infer"):
        given = ["-m", "infer.run", "--model", model, "--input", prep, "--output", out]
        call(*given, "--output_dirname", "plain")
        call(*given, "--output_dirname", "flip", "--flip")
    with timed(seconds, "decode"):
        given = ["-m", "postprocess.decode", "--cfg", cfg, "--manifest", prep / "manifest.json"]
        dumps = ["--dump_dir", out / "plain", "--dump_dir_flip", out / "flip"]
        call(*given, *dumps, "--output", place / "keypoints.json")
    return seconds


def compare(place: Path, people: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[int, float, float]:
    """People, the largest distance of a keypoint in pixels of the photograph, and of a score. Raises WorkFailed where
    they differ by more than PIXELS or SCORES: other people, another order, a keypoint elsewhere."""
    found: dict[int, list[dict[str, Any]]] = {}
    for person in json.loads((place / "keypoints.json").read_text()):
        found.setdefault(person["image_id"], []).append(person)
    count, pixels, values = 0, 0.0, 0.0
    for image in Manifest.read(place / "prep/manifest.json").images:
        keypoints, scores = people[image.stem]
        ours = found.get(image.image_id or 0, [])
        if len(ours) != len(scores):
            raise WorkFailed(f"{image.stem}: {len(ours)} people, expected {len(scores)}")
        if not ours:
            continue
        assert image.center is not None and image.scale is not None
        size = (image.shape[-1], image.shape[-2])
        expected = to_image(keypoints, image.center, image.scale, size)[:, :, :3]
        mine = np.array([person["keypoints"] for person in ours]).reshape(expected.shape)
        far = np.abs(mine - expected)[:, :, :2].max()
        off = max(np.abs(mine - expected)[:, :, 2].max(), np.abs([p["score"] for p in ours] - scores).max())
        if far > PIXELS or off > SCORES:
            raise WorkFailed(f"{image.stem}: a keypoint is {far:.3g} pixels off, a score {off:.2g}")
        count, pixels, values = count + len(ours), max(pixels, far), max(values, off)
    return count, pixels, values


def run(peer: Path, cfg: Path, onnx: Path, model: Path, folder: Path, images: int) -> None:
    """Print a line for each part and for all. Raises WorkFailed where keypoints differ."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = subset(folder, place / "coco", cfg, images)
        for name in ("theirs", "ours"):
            make_folder(place / name)
        theirs, people = seeds_way(peer, onnx, place / "theirs")
        ours = our_way(cfg, model, place / "ours")
        found, pixels, values = compare(place / "ours", people)
        told = f"{found} people in the same order, keypoints within {pixels:.1e} pixels, scores {values:.1e}"
        print(f"{count} photographs, {cores()} cores; {told}")
        for part in (*PARTS, "all"):
            parts = PARTS if part == "all" else (part,)
            slow, fast = (sum(seconds[each] for each in parts) / count for seconds in (theirs, ours))
            print(f"{part:10}  {slow:7.3f} s an image the seed's way, {fast:7.3f} ours, {slow / fast:5.2f} x")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pose_chain", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of upstream")
    parser.add_argument("--cfg", default="higher_hrnet_w32_512", help="as of preprocess.pose (%(default)s)")
    parser.add_argument("--onnx", type=Path, required=True, help="of pth2onnx.pose")
    parser.add_argument("--model", type=Path, required=True, help="the same, compiled by atc's twin for float32 inputs")
    parser.add_argument("--dataset", type=Path, required=True, help="COCO folder")
    parser.add_argument("--images", type=integer(1), default=4, help="the first ones in natural order (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, config_path(args.cfg), args.onnx, args.model, args.dataset, args.images)


if __name__ == "__main__":
    sys.exit(main())
