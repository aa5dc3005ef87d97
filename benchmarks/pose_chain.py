"""Compare the speed of the pose pipeline with upstream's code: seconds per image of each stage, and the ratio.

    python -m benchmarks.pose_chain --peer HigherHRNet-Human-Pose-Estimation --dataset data/coco --images 8 \\
        --onnx build/higher_hrnet_w32_512/model.onnx --model build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx

Upstream's code (https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation), called as in
benchmarks.preprocess_pose_peer, writes two float32 npy files for each image: one to a directory of normal inputs, one
to a directory of flipped inputs. A default onnxruntime session of the ONNX file, which has dynamic shapes, infers both
directories file by file into npy files, and upstream's decoder reads these.
Our code: preprocess.pose, infer.run with both passes and postprocess.pose without AP, each in a separate process, on
all cores. Only images for which upstream's size is a gear are used. Each side runs once. The run fails if keypoints
differ.
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
from hrnet.config import add_cfg_argument, load_config
from hrnet.io.coco import annotation_path, read_annotations
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.parts import keypoints_path
from hrnet.pose.decode import to_image
from hrnet.schemas import POSE

PIXELS = 0.01  # image pixels: allows rounding errors; a wrong keypoint is off by at least a quarter of an input pixel
SCORES = 1e-3
STAGES = ("preprocess", "infer", "decode")
PART = "part.json"  # the record beside the keypoints

Seconds = dict[str, float]


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begun


def subset(folder: Path, target: Path, cfg: Path, count: int) -> int:
    """Create the COCO directory `target` with the first `count` images for which upstream's size is a gear; return
    their number."""
    config = load_config(cfg, POSE)
    available = [(height, width) for height, width in config.INPUT.GEARS]
    images = make_folder(target / "images" / SPLIT)
    listed: list[dict[str, object]] = []
    for image in read_annotations(annotation_path(folder, SPLIT)).images:
        source = (folder / "images" / SPLIT / image.file_name).resolve()
        size_upstream = gears.whole_size(image.width, image.height, config.DATASET.INPUT_SIZE)
        if len(listed) < count and source.is_file() and size_upstream in available:
            (images / image.file_name).symlink_to(source)
            size = {"width": image.width, "height": image.height}
            listed.append({"id": image.image_id, "file_name": image.file_name, **size})
    if not listed:
        raise UserError("upstream's size is not a gear for any image", where=folder)
    index = annotation_path(target, SPLIT)
    make_folder(index.parent)
    content = {"images": listed, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    index.write_text(json.dumps(content), encoding="utf-8")
    return len(listed)


def call(*words: object) -> None:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise WorkFailed(done.stderr.strip(), where=words[1])


def infer_baseline(onnx: Path, inputs: Path, outputs: Path) -> None:
    """Infer file by file with one default session, as users do."""
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    os.makedirs(outputs)
    for file in sorted(inputs.glob("*.npy")):
        for number, output in enumerate(session.run(None, {name: np.load(file)})):
            np.save(outputs / f"{file.stem}_{number}.npy", output)


def run_upstream(peer: Path, onnx: Path, folder: Path) -> tuple[Seconds, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Seconds of each stage, and for each stem the keypoints (input pixels) and scores."""
    upstream, seconds = UpstreamDecoder(peer), Seconds()
    people = {}
    prep, prep_flip, out, out_flip = (folder / name for name in ("prep", "prep_flip", "out", "out_flip"))
    with timed(seconds, "preprocess"):
        call("-c", PEER, peer, folder.parent / "coco/images" / SPLIT, prep, prep_flip)
    with timed(seconds, "infer"):
        infer_baseline(onnx, prep, out)
        infer_baseline(onnx, prep_flip, out_flip)
    with timed(seconds, "decode"):
        for stem in sorted(file.stem for file in prep.glob("*.npy")):
            pair = [[np.load(outputs / f"{stem}_{number}.npy") for number in (0, 1)] for outputs in (out, out_flip)]
            people[stem] = upstream.decode(*pair)
    return seconds, people


def run_ours(cfg: Path, model: Path, folder: Path) -> Seconds:
    """Seconds of each stage; the files are written to `folder`."""
    seconds = Seconds()
    prep, plain, flip = folder / "prep", folder / "out/plain", folder / "out/flip"
    with timed(seconds, "preprocess"):
        call("-m", "preprocess.pose", "--cfg", cfg, "--dataset", folder.parent / "coco", "--output", prep)
    with timed(seconds, "infer"):
        call("-m", "infer.run", "--model", model, "--inputs", prep, "--output", plain, "--output_flip", flip)
    with timed(seconds, "decode"):
        given = ["-m", "postprocess.pose", "--cfg", cfg, "--manifest", prep / "manifest.json"]
        runs = ["--dump_dir", plain, "--dump_dir_flip", flip]
        call(*given, "--dataset", folder.parent / "coco", *runs, "--part", folder / PART)
    return seconds


def compare(folder: Path, people: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[int, float, float]:
    """The number of people, and the largest difference of a keypoint (image pixels) and of a score. Raises WorkFailed
    if people or their order differ, a keypoint by more than PIXELS, or a score by more than SCORES."""
    found: dict[int, list[dict[str, Any]]] = {}
    for person in json.loads(keypoints_path(folder / PART).read_text()):
        found.setdefault(person["image_id"], []).append(person)
    count, pixels, values = 0, 0.0, 0.0
    for image in Manifest.read(folder / "prep/manifest.json").images:
        keypoints, scores = people[image.stem]
        ours = found.get(image.image_id or 0, [])
        if len(ours) != len(scores):
            raise WorkFailed("people differ", where=image.stem, expected=len(scores), found=len(ours))
        if not ours:
            continue
        assert image.center is not None and image.scale is not None
        size = (image.shape[-1], image.shape[-2])
        expected = to_image(keypoints, image.center, image.scale, size)[:, :, :3]
        mine = np.array([person["keypoints"] for person in ours]).reshape(expected.shape)
        far = np.abs(mine - expected)[:, :, :2].max()
        off = max(np.abs(mine - expected)[:, :, 2].max(), np.abs([p["score"] for p in ours] - scores).max())
        if far > PIXELS or off > SCORES:
            differences = f"a keypoint by {far:.3g} pixels, a score by {off:.2g}"
            raise WorkFailed("keypoints differ", where=image.stem, found=differences)
        count, pixels, values = count + len(ours), max(pixels, far), max(values, off)
    return count, pixels, values


def run(peer: Path, cfg: Path, onnx: Path, model: Path, folder: Path, images: int) -> None:
    """Print a line for each stage and for the sum. Raises WorkFailed if keypoints differ."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        count = subset(folder, root / "coco", cfg, images)
        for name in ("theirs", "ours"):
            make_folder(root / name)
        theirs, people = run_upstream(peer, onnx, root / "theirs")
        ours = run_ours(cfg, model, root / "ours")
        found, pixels, values = compare(root / "ours", people)
        equal = f"{found} people in the same order, keypoints within {pixels:.1e} pixels, scores {values:.1e}"
        print(f"{count} images, {cores()} cores; {equal}")
        for stage in (*STAGES, "all"):
            stages = STAGES if stage == "all" else (stage,)
            slow, fast = (sum(seconds[each] for each in stages) / count for seconds in (theirs, ours))
            print(f"{stage:10}  {slow:7.3f} s per image upstream, {fast:7.3f} ours, {slow / fast:5.2f} x")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pose_chain", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of upstream")
    add_cfg_argument(parser, default="higher_hrnet_w32_512")
    parser.add_argument("--onnx", type=Path, required=True, help="ONNX file of pth2onnx.pose")
    parser.add_argument("--model", type=Path, required=True, help="the same model, compiled for float32 inputs")
    parser.add_argument("--dataset", type=Path, required=True, help="COCO directory")
    parser.add_argument("--images", type=integer(1), default=4, help="number of images, in natural order (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.cfg, args.onnx, args.model, args.dataset, args.images)


if __name__ == "__main__":
    sys.exit(main())
