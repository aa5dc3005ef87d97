"""Compare preprocess.classification with the model zoo's imagenet_torch_preprocess.py: images/s, and equal inputs.

    python -m benchmarks.preprocess_peer --peer imagenet_torch_preprocess.py --dataset data/imagenet --copies 5

The peer's script is not part of this repository: give its path. It is called with the arguments `<mode> <directory of
images> <output>`; --mode sets the mode. The peer starts a process for each 500 images; each image is linked `copies`
times, so that a small data set also keeps several processes busy.
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


def link_copies(folder: Path, target: Path, copies: int) -> int:
    """Make `copies` hard links to each image, or copies if the target is on another disk, with its label; return their
    number."""
    dataset = find_images(folder, CLASSES)
    make_folder(target / "val")
    lines = []
    for source, label in dataset.labels.items():
        for number in range(copies):
            name = f"{number}_{Path(source).name}"
            link_or_copy(dataset.root / source, target / "val" / name)
            lines.append(f"{name} {label}\n")
    (target / "val_label.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def run(peer: Path, folder: Path, copies: int, rounds: int, mode: str) -> None:
    """Print images/s of both and the ratio. Raises WorkFailed if an input differs or is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        count = link_copies(folder, root / "images", copies)
        ours, theirs = root / "ours", root / "theirs"
        flags = ["--cfg", "hrnet_w18", "--dataset", root / "images", "--output", ours]
        candidates = {
            "peer": lambda: call([theirs], peer, mode, root / "images/val", theirs),
            "ours": lambda: call([ours], "-m", "preprocess.classification", *flags),
        }
        seconds = in_turn(candidates, rounds)
        check_equal(count, [(ours, theirs)])
        print(f"{count} images, {cores()} cores, {rounds} rounds, medians; all inputs are identical")
        report(seconds, count, "peer")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocess_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="the model zoo's imagenet_torch_preprocess.py")
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet directory of RGB and grey JPEGs")
    add_rounds_arguments(parser)
    parser.add_argument("--mode", default="resnet", help="first argument of the peer (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.dataset, args.copies, args.rounds, args.mode)


if __name__ == "__main__":
    sys.exit(main())
