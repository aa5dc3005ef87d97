"""Decode a few scenes with upstream's decoder -> tests/hrnet/pose/golden.npz.

    python -m tests.hrnet.pose.make_golden --peer HigherHRNet-Human-Pose-Estimation

The peer is a checkout of HRNet/HigherHRNet-Human-Pose-Estimation (aa23881). The scenes are not kept, they are drawn by
seed. A sum of each scene is stored, to recognise a numpy that draws other scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

import numpy as np

from benchmarks.upstream_pose import UpstreamDecoder
from hrnet.cli import command
from hrnet.io.files import replacing
from tests.support.pose_scenes import Outputs, outputs_of

GOLDEN = Path(__file__).with_name("golden.npz")
# name: seed, people, width, height, kind, flip test
SCENES = {
    "one": (0, 1, 512, 512, "plain", True),
    "five": (1, 5, 512, 512, "plain", True),
    "ten": (2, 10, 704, 512, "plain", True),
    "thirty": (3, 30, 512, 512, "plain", True),
    "without_flip": (4, 5, 512, 512, "plain", False),
    "crowd_of_near_tags": (5, 20, 512, 512, "near", True),
    "crowd_without_flip": (6, 30, 384, 256, "near", False),
    "half_the_joints": (7, 3, 512, 512, "sparse", True),
    "float16": (8, 10, 384, 256, "half", True),
    "plateaus": (9, 5, 384, 256, "steps", True),
    "nobody": (10, 0, 256, 256, "clean", True),
}


def scene(name: str) -> tuple[Outputs, Optional[Outputs]]:
    seed, count, width, height, kind, flip = SCENES[name]
    outputs, outputs_flip = outputs_of(seed, count, width, height, kind)
    return outputs, outputs_flip if flip else None


def sum_of(pair: tuple[Outputs, Optional[Outputs]]) -> float:
    return float(sum(np.abs(array).sum(dtype=np.float64) for outputs in pair if outputs for array in outputs))


@command
def main(argv: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hrnet.pose.make_golden", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of upstream")
    upstream = UpstreamDecoder(parser.parse_args(argv).peer)
    arrays: dict[str, np.ndarray] = {}
    for name in SCENES:
        pair = scene(name)
        arrays[f"{name}_keypoints"], arrays[f"{name}_scores"] = upstream.decode(*pair)
        arrays[f"{name}_sum"] = np.array(sum_of(pair))
    with replacing(GOLDEN) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    people = sum(len(arrays[f"{name}_scores"]) for name in SCENES)
    print(f"wrote {people} people of {len(SCENES)} scenes to {GOLDEN}")


if __name__ == "__main__":
    sys.exit(main())
