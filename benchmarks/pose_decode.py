"""Compare the pose decoder's speed with upstream's: milliseconds per image and step, by number of people.

    python -m benchmarks.pose_decode --peer HigherHRNet-Human-Pose-Estimation

The peer is a checkout of HRNet/HigherHRNet-Human-Pose-Estimation (aa23881), which is not part of this repository. Both
decode the same random outputs for images of 704 x 512 pixels and their flipped images. The run fails if people or
keypoints differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from benchmarks.turns import in_turn
from benchmarks.upstream_pose import UpstreamDecoder, first_difference
from hrnet.cli import WorkFailed, command, cores, integer
from hrnet.pose.decode import STEPS, decode
from tests.support.pose_scenes import Outputs, outputs_of

WIDTH, HEIGHT = 704, 512


def run(peer: Path, people: list[int], scenes: int, rounds: int) -> None:
    """Print a line for each number of people. Raises WorkFailed if keypoints differ."""
    upstream = UpstreamDecoder(peer)
    how = f"{cores()} cores, {rounds} rounds, medians (means for the single steps); keypoints within 1e-3 pixels"
    print(f"{scenes} scenes of {WIDTH} x {HEIGHT}, {how}")
    for count in people:
        drawn = [outputs_of(seed, count, WIDTH, HEIGHT) for seed in range(scenes)]
        for seed, pair in enumerate(drawn):
            differs = first_difference(decode(*pair), *upstream.decode(*pair))
            if differs:
                raise WorkFailed(differs, where=f"{count} people, scene {seed}")
        measure(upstream, count, drawn, rounds)


def measure(upstream: UpstreamDecoder, count: int, drawn: Sequence[tuple[Outputs, Outputs]], rounds: int) -> None:
    """Print the line for `count` people."""
    timings: dict[str, float] = {}

    def ours() -> None:
        for outputs, outputs_flip in drawn:
            decode(outputs, outputs_flip, timings=timings)

    def theirs() -> None:
        for pair in drawn:
            upstream.decode(*pair)

    seconds = in_turn({"theirs": theirs, "ours": ours}, rounds)
    ratio = statistics.median(peer / own for peer, own in zip(seconds["theirs"], seconds["ours"]))
    peer, own = (1000 * statistics.median(seconds[name]) / len(drawn) for name in seconds)
    steps = ", ".join(f"{step} {timings[step] / (rounds + 1) / len(drawn):.1f}" for step in STEPS)
    print(f"{count:3} people: {own:6.1f} ms ({steps}), upstream {peer:7.1f} ms, speed {ratio:5.1f} x upstream")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pose_decode", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of upstream")
    text = "numbers of people in a scene (%(default)s)"
    parser.add_argument("--people", type=integer(0), nargs="+", default=[1, 5, 10, 30], help=text)
    parser.add_argument("--scenes", type=integer(1), default=3, help="scenes for each number of people (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.people, args.scenes, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
