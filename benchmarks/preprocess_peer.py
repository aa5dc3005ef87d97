"""`preprocess.classification` against the model zoo's imagenet_torch_preprocess.py: images/s on the same images, and
whether the inputs are equal to the bit.

    python -m benchmarks.preprocess_peer --peer imagenet_torch_preprocess.py --dataset data/imagenet --copies 5

The peer's script is not part of this repository: give its path. Its arguments are `resnet <directory of images>
<output>`. Each image is linked `copies` times, since the peer starts a process for each 500 images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Optional

from benchmarks.turns import add_rounds_arguments, call, check_equal, in_turn, link_or_copy, report
from hrnet.cli import command, cores
from hrnet.datasets import find_images
from hrnet.io.files import make_folder

CLASSES = 1000  # of ImageNet


def copies_of(folder: Path, place: Path, copies: int) -> int:
    """Link (on another disk: copy) each image `copies` times, with its label; returns the number of links."""
    dataset = find_images(folder, CLASSES)
    make_folder(place / "val")
    lines = []
    for source, label in dataset.labels.items():
        for number in range(copies):
            name = f"{number}_{Path(source).name}"
            link_or_copy(dataset.root / source, place / "val" / name)
            lines.append(f"{name} {label}\n")
    (place / "val_label.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def run(peer: Path, folder: Path, copies: int, rounds: int, mode: str) -> None:
    """Print images/s of both and the ratio. Raises WorkFailed when an input differs or is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = copies_of(folder, place / "images", copies)
        ours, theirs = place / "ours", place / "theirs"

        flags = ["--cfg", "hrnet_w18", "--dataset", place / "images", "--output", ours]
        candidates = {
            "peer": lambda: call([theirs], peer, mode, place / "images/val", theirs),
            "ours": lambda: call([ours], "-m", "preprocess.classification", *flags),
        }
        seconds = in_turn(candidates, rounds)
        check_equal(count, [(ours, theirs)])
        print(f"{count} images, {cores()} cores, {rounds} rounds, medians; all inputs equal to the bit")
        report(seconds, count, "peer")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocess_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="the model zoo's imagenet_torch_preprocess.py")
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet folder of RGB and grey JPEGs")
    add_rounds_arguments(parser)
    parser.add_argument("--mode", default="resnet", help="the peer's name of the preprocessing (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.dataset, args.copies, args.rounds, args.mode)


if __name__ == "__main__":
    sys.exit(main())
