"""Candidates measured in turn, so that what the machine does besides falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Callable


def in_turn(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate, once in every round; one round before them all is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, work in candidates.items():
            begun = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def report(seconds: Mapping[str, list[float]], images: int, peer: str) -> None:
    """Print the median images/s of each candidate and its ratio to `peer`: the median of the ratios of each round."""
    width = max(map(len, seconds))
    for name, mine in seconds.items():
        ratio = statistics.median(theirs / each for each, theirs in zip(mine, seconds[peer]))
        print(f"{name:{width}}  {images / statistics.median(mine):9.1f} images/s  {ratio:5.2f} x {peer}")
