"""`preprocess.classification` against the model zoo's imagenet_torch_preprocess.py: seconds for the same photographs, and
whether the inputs are the same to the bit.

    python -m benchmarks.preprocess_peer --peer imagenet_torch_preprocess.py --dataset data/imagenet --copies 5

The peer's script is not part of this repository: name the file. It takes `resnet <folder of images> <output>`, as the
model zoo's does. The photographs are linked `copies` times over, since the peer gives each 500 of them a process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional

from benchmarks.turns import in_turn, report
from hrnet.cli import WorkFailed, command, cores, integer
from hrnet.datasets import find_images
from hrnet.io.files import make_folder


def copies_of(folder: Path, place: Path, copies: int) -> int:
    """Hard links (or copies, on another disk) of all images, `copies` times over, with their labels; how many."""
    dataset = find_images(folder)
    make_folder(place / "val")
    lines = []
    for source, label in dataset.labels.items():
        for number in range(copies):
            name = f"{number}_{Path(source).name}"
            try:
                os.link(dataset.root / source, place / "val" / name)
            except OSError:
                shutil.copyfile(dataset.root / source, place / "val" / name)
            lines.append(f"{name} {label}\n")
    (place / "val_label.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def differing(ours: Path, theirs: Path) -> list[str]:
    """Names of the peer's inputs that are not ours to the bit."""
    return [file.name for file in sorted(theirs.glob("*.bin")) if file.read_bytes() != (ours / file.name).read_bytes()]


def run(peer: Path, folder: Path, copies: int, rounds: int, mode: str) -> None:
    """Print images/s of both and the ratio. Raises WorkFailed where an input differs or is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = copies_of(folder, place / "images", copies)
        ours, theirs = place / "ours", place / "theirs"

        def call(output: Path, *command: object) -> None:
            shutil.rmtree(output, ignore_errors=True)
            subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)

        candidates = {
            "peer": lambda: call(theirs, peer, mode, place / "images/val", theirs),
            "ours": lambda: call(ours, "-m", "preprocess.classification", "hrnet_w18", place / "images", ours),
        }
        seconds = in_turn(candidates, rounds)
        made, wrong = len(list(theirs.glob("*.bin"))), differing(ours, theirs)
        if made != count or wrong:
            raise WorkFailed(
                f"the peer made {made} inputs of {count} images, {len(wrong)} differ from ours: {wrong[:3]}"
            )
        print(f"{count} photographs, {cores()} cores, {rounds} rounds, medians; all inputs equal to the bit")
        report(seconds, count, "peer")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocess_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="the model zoo's imagenet_torch_preprocess.py")
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet folder of RGB and grey JPEGs")
    parser.add_argument("--copies", type=integer(1), default=5, help="of each photograph (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="turns of each (%(default)s)")
    parser.add_argument("--mode", default="resnet", help="the peer's name of the arithmetic (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.dataset, args.copies, args.rounds, args.mode)


if __name__ == "__main__":
    sys.exit(main())
