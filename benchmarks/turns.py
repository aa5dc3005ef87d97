"""Helpers of the benchmarks: candidates run alternately, so that other load on the machine affects all of them."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Callable

from hrnet.cli import WorkFailed, integer


def in_turn(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run a warm-up round, which is not timed, then `rounds` rounds; return each candidate's seconds in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, work in candidates.items():
            begun = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def report(seconds: Mapping[str, list[float]], images: int, peer: str) -> None:
    """Print the median images/s of each candidate, and the median over the rounds of its ratio to `peer`."""
    width = max(map(len, seconds))
    for name, mine in seconds.items():
        ratio = statistics.median(theirs / each for each, theirs in zip(mine, seconds[peer]))
        print(f"{name:{width}}  {images / statistics.median(mine):9.1f} images/s  {ratio:5.2f} x {peer}")


def call(products: Iterable[object], *words: object) -> None:
    """Remove `products` (directories or files) of an earlier call, then run python with these arguments."""
    for product in map(Path, map(str, products)):
        shutil.rmtree(product) if product.is_dir() else product.unlink(missing_ok=True)
    subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the target is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def check_equal(count: int, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise WorkFailed unless both wrote `count` inputs of the same names and bytes. `pairs`: our directory and the
    peer's."""
    for ours, theirs in pairs:
        own, made = ({file.name: file for file in inputs_in(folder)} for folder in (ours, theirs))
        wrong = sorted(
            name for name in {*own, *made} if not (name in own and name in made and same_bytes(own[name], made[name]))
        )
        if len(made) != count or wrong:
            found = f"{len(made)} inputs, {len(wrong)} differ: {wrong[:3]}"
            raise WorkFailed(
                "the peer's inputs differ from ours", where=theirs, expected=f"{count} inputs", found=found
            )


def inputs_in(folder: Path) -> list[Path]:
    return [*folder.glob("*.bin"), *folder.glob("*.npy")]


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def add_rounds_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--copies", type=integer(1), default=5, help="copies of each image (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="runs of each candidate (%(default)s)")
