"""Compare preprocess.pose with the model zoo's preprocessing (upstream's functions): images/s, and equal inputs.

    python -m benchmarks.preprocess_pose_peer --peer HigherHRNet-Human-Pose-Estimation --dataset data/coco --copies 5

The peer is not part of this repository: give a checkout of HRNet/HigherHRNet-Human-Pose-Estimation. Its functions are
called as in the model zoo's HigherHRNet_preprocess.py: one process, cv2.imread, resize_align_multi_scale, torchvision's
ToTensor and Normalize written in torch, torch.flip, and two float32 npy files for each image. Neither side uses gears,
because upstream does not have them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Optional

from benchmarks.turns import add_rounds_arguments, call, check_equal, in_turn, link_or_copy, report
from hrnet.cli import UserError, command, cores
from hrnet.io.coco import annotation_path, read_annotations
from hrnet.io.files import make_folder

SPLIT = "val2017"
CONFIG = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 512}\n"  # no gears
CONFIG += "TEST: {NMS_KERNEL: 5, NMS_PADDING: 2, PROJECT2IMAGE: true}\n"
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


def link_copies(folder: Path, root: Path, copies: int) -> int:
    """Make `copies` hard links to each existing image, or copies if the target is on another disk; return their
    number."""
    source, target = folder / "images" / SPLIT, make_folder(root / "images" / SPLIT)
    listed: list[dict[str, object]] = []
    for image in read_annotations(annotation_path(folder, SPLIT)).images:
        for number in range(copies if (source / image.file_name).is_file() else 0):
            name = f"{number}_{image.file_name}"
            link_or_copy(source / image.file_name, target / name)
            listed.append({"id": len(listed), "file_name": name, "width": image.width, "height": image.height})
    index = annotation_path(root, SPLIT)
    make_folder(index.parent)
    content = {"images": listed, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    index.write_text(json.dumps(content), encoding="utf-8")
    return len(listed)


def run(peer: Path, folder: Path, copies: int, rounds: int) -> None:
    """Print images/s of all candidates and the ratios. Raises WorkFailed if an input differs or is missing."""
    if not (peer / "lib/utils/transforms.py").is_file():
        raise UserError("not a checkout of HigherHRNet", where=peer, expected="lib/utils/transforms.py in it")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        count = link_copies(folder, root / "coco", copies)
        (root / "pose.yaml").write_text(CONFIG, encoding="utf-8")

        def ours(name: str, *options: object) -> None:
            given = ["--cfg", root / "pose.yaml", "--dataset", root / "coco", "--output", root / name, *options]
            call([root / name, root / "flip"], "-m", "preprocess.pose", *given)

        theirs, theirs_flip = root / "theirs", root / "theirs_flip"
        peer_call = ["-c", PEER, peer, root / "coco/images" / SPLIT, theirs, theirs_flip]
        candidates = {
            "peer": lambda: call([theirs, theirs_flip], *peer_call),
            "both files": lambda: ours("both", "--output_flip", root / "flip"),
            "no flip file": lambda: ours("float32"),
            "uint8": lambda: ours("uint8", "--input_dtype", "uint8"),
        }
        seconds = in_turn(candidates, rounds)
        ours("both", "--output_flip", root / "flip")
        check_equal(count, [(root / "both", theirs), (root / "flip", theirs_flip)])
        print(f"{count} images, {cores()} cores, {rounds} rounds, medians; all inputs are identical")
        report(seconds, count, "peer")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preprocess_pose_peer", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of HigherHRNet-Human-Pose-Estimation")
    parser.add_argument("--dataset", type=Path, required=True, help="COCO directory")
    add_rounds_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.dataset, args.copies, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
