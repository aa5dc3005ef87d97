"""`preprocess.pose` against the seed's way, on the functions of an upstream checkout: seconds for the same photographs,
and whether the inputs are the same to the bit.

    python -m benchmarks.preprocess_pose_peer --peer HigherHRNet-Human-Pose-Estimation --dataset data/coco --copies 5

The peer is not part of this repository: name a checkout of HRNet/HigherHRNet-Human-Pose-Estimation. Its functions are
called as the model zoo's HigherHRNet_preprocess.py calls them: one process, cv2.imread, resize_align_multi_scale,
torchvision's ToTensor and Normalize spelt out in torch, torch.flip, and two float32 npy files for each image. The model
zoo's gears are left out, since upstream has none; ours are switched off for that, which makes no work less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional

from benchmarks.turns import in_turn, report
from hrnet.cli import UserError, WorkFailed, command, cores, integer
from hrnet.io.coco import annotation_path, read_images
from hrnet.io.files import make_folder

SPLIT = "val2017"
CONFIG = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 512}\n"  # no gears
PEER = """
import os, sys
import cv2, numpy as np, torch
checkout, images, output, output_flip = sys.argv[1:]
sys.path.insert(0, os.path.join(checkout, "lib"))
from utils.transforms import resize_align_multi_scale
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
for folder in (output, output_flip):
    os.makedirs(folder)
for name in sorted(os.listdir(images)):
    image = cv2.imread(os.path.join(images, name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    resized, _, _ = resize_align_multi_scale(image, 512, 1.0, 1)
    tensor = torch.from_numpy(resized.transpose((2, 0, 1))).contiguous().to(torch.float32).div(255)
    tensor = tensor.sub_(mean[:, None, None]).div_(std[:, None, None]).unsqueeze(0)
    stem = os.path.splitext(name)[0]
    np.save(os.path.join(output, stem + ".npy"), tensor.numpy())
    np.save(os.path.join(output_flip, stem + ".npy"), torch.flip(tensor, [3]).numpy())
"""


def copies_of(folder: Path, place: Path, copies: int) -> int:
    """Hard links (or copies, on another disk) of all images that are there, `copies` times over; how many."""
    source, target = folder / "images" / SPLIT, make_folder(place / "images" / SPLIT)
    listed: list[dict[str, object]] = []
    for image in read_images(annotation_path(folder, SPLIT)):
        for number in range(copies if (source / image.file_name).is_file() else 0):
            name = f"{number}_{image.file_name}"
            try:
                os.link(source / image.file_name, target / name)
            except OSError:
                shutil.copyfile(source / image.file_name, target / name)
            listed.append({"id": len(listed), "file_name": name, "width": image.width, "height": image.height})
    index = annotation_path(place, SPLIT)
    make_folder(index.parent)
    index.write_text(json.dumps({"images": listed}), encoding="utf-8")
    return len(listed)


def differing(ours: Path, theirs: Path) -> list[str]:
    """Names of the peer's inputs that are not ours to the byte."""
    return [file.name for file in sorted(theirs.glob("*.npy")) if file.read_bytes() != (ours / file.name).read_bytes()]


def run(peer: Path, folder: Path, copies: int, rounds: int) -> None:
    """Print images/s of the peer and of ours and the ratios. Raises WorkFailed where an input differs or is missing."""
    if not (peer / "lib/utils/transforms.py").is_file():
        raise UserError("is no checkout of HigherHRNet", where=peer, expected="lib/utils/transforms.py in it")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = copies_of(folder, place / "coco", copies)
        (place / "pose.yaml").write_text(CONFIG, encoding="utf-8")

        def call(outputs: list[Path], *command: object) -> None:
            for output in outputs:
                shutil.rmtree(output, ignore_errors=True)
            subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)

        def ours(name: str, *options: object) -> None:
            given = ["--cfg", place / "pose.yaml", "--dataset", place / "coco", "--output", place / name, *options]
            call([place / name, place / "flip"], "-m", "preprocess.pose", *given)

        theirs, theirs_flip = place / "theirs", place / "theirs_flip"
        peer_call = ["-c", PEER, peer, place / "coco/images" / SPLIT, theirs, theirs_flip]
        candidates = {
            "peer": lambda: call([theirs, theirs_flip], *peer_call),
            "both files": lambda: ours("both", "--output_flip", place / "flip"),
            "no flip file": lambda: ours("float32"),
            "uint8": lambda: ours("uint8", "--input", "uint8"),
        }
        seconds = in_turn(candidates, rounds)
        ours("both", "--output_flip", place / "flip")
        made = len(list(theirs.glob("*.npy")))
        wrong = differing(place / "both", theirs) + differing(place / "flip", theirs_flip)
        if made != count or wrong:
            raise WorkFailed(
                f"the peer made {made} inputs of {count} images, {len(wrong)} differ from ours: {wrong[:3]}"
            )
        print(f"{count} photographs, {cores()} cores, {rounds} rounds, medians; all inputs equal to the byte")
        report(seconds, count, "peer")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocess_pose_peer")
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of HigherHRNet-Human-Pose-Estimation")
    parser.add_argument("--dataset", type=Path, required=True, help="COCO folder")
    parser.add_argument("--copies", type=integer(1), default=5, help="of each photograph (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="turns of each (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.dataset, args.copies, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
