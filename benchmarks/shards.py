"""Measure `make eval` in parts on a large data set and on a small one: time per image, and disk space.

    python -m benchmarks.shards --images 120000 --small 1000

Creates data sets of hard links to the demo's digits in a temporary directory and runs `make eval` on both; make chooses
the number of parts. Prints seconds, milliseconds per image and the maximum size of build/ for both, and the ratio of
the times per image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import WorkFailed, command, integer

INTERVAL = 0.5  # seconds between two measurements of the disk space


class Measured(NamedTuple):
    seconds: float
    largest: int  # bytes


def write_links(folder: Path, digits: Path, count: int) -> Path:
    """Create a data set of `count` images: repeated hard links to the validation digits."""
    (folder / "val").mkdir(parents=True)
    listed = [line.split() for line in (digits / "val_label.txt").read_text(encoding="utf-8").splitlines()]
    lines = []
    for i in range(count):
        name, label = listed[i % len(listed)]
        os.link(digits / "val" / name, folder / "val" / f"{i:07d}_{name}")
        lines.append(f"{i:07d}_{name} {label}\n")
    (folder / "val_label.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def size_of(folder: Path) -> int:
    """Bytes of all files in a directory tree; files that are removed meanwhile do not count."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:
                continue
    return total


def evaluate(dataset: Path, build: Path, more: list[str]) -> Measured:
    """Run `make eval` and measure the disk space. Raises WorkFailed if it fails."""
    largest, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(INTERVAL):
            largest = max(largest, size_of(build))

    watcher = threading.Thread(target=watch)
    words = ["make", "eval", "MODEL=demo_digits", "WEIGHTS=weights/demo_digits.pth", f"DATASET={dataset}", "GATE=none"]
    begun = time.perf_counter()
    watcher.start()
    done = subprocess.run(
        [*words, f"BUILD={build}", f"PYTHON={sys.executable}", *more], stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - begun
    ended.set()
    watcher.join()
    print(done.stdout.rstrip().splitlines()[-1])
    if done.returncode:
        raise WorkFailed("make eval failed, see above", where=dataset, found=f"exit {done.returncode}")
    return Measured(seconds, largest)


def run(images: int, small: int, digits: Path, more: list[str]) -> None:
    """Measure both data sets; the model is compiled before."""
    with tempfile.TemporaryDirectory(dir=digits.parent) as scratch:
        folder = Path(scratch)
        few = write_links(folder / "small", digits, small)
        many = write_links(folder / "large", digits, images)
        evaluate(few, folder / "build", more)  # compiles the model
        results = {}
        for name, dataset, count in (("small", few, small), ("large", many, images)):
            (folder / "build/demo_digits/om").parent.mkdir(exist_ok=True)
            for product in ("prep", "out", "eval"):
                subprocess.run(["rm", "-rf", str(folder / "build/demo_digits" / product)], check=True)
            found = evaluate(dataset, folder / "build", more)
            results[name] = 1000 * found.seconds / count
            print(
                f"{count} images: {found.seconds:.1f} s, {results[name]:.2f} ms per image, "
                f"at most {found.largest / 1e6:.0f} MB in build/"
            )
        print(f"time per image, large / small: {results['large'] / results['small']:.2f}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=integer(1), default=120_000, help="images of the large data set (%(default)s)")
    parser.add_argument("--small", type=integer(1), default=1000, help="images of the small data set (%(default)s)")
    parser.add_argument("--digits", type=Path, default=Path("data/digits"), help="output of data.digits (%(default)s)")
    parser.add_argument("more", nargs="*", help="more arguments for make, such as SHARDS=4")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
