"""Count the multiply-adds and parameters of a config's network, without weights.

    python -m pth2onnx.cost --cfg hrnet_w18
    hrnet_w18: 4.2835 GMACs at 224 x 224, 21.299 M parameters

Reads    a config; for a pose model the image has DATASET.INPUT_SIZE x DATASET.INPUT_SIZE pixels
Writes   with --output a record of kind `cost`: `gmacs` for one image, `params_m`, and `size` (width and height)

torch's FlopCounterMode counts convolutions and matrix products on the meta device, without computing values. It counts
two operations for each multiply-add, so its result is halved. Resizing, sums and activations are not counted, as in the
publishers' tables.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import torch
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from hrnet.cli import command
from hrnet.config import add_cfg_argument, load_config
from hrnet.io.files import make_folder
from hrnet.io.records import write_record
from hrnet.nets import classification, pose
from hrnet.schemas import POSE


@dataclass(frozen=True)
class Cost:
    """The cost of computing one image."""

    gmacs: float  # 10^9 multiply-adds
    params_m: float  # 10^6 parameters
    size: list[int]  # width and height, pixels


def count(config: CfgNode) -> Cost:
    """The cost of a config's network."""
    is_pose = config.MODEL.NAME == POSE
    width, height = [config.DATASET.INPUT_SIZE] * 2 if is_pose else config.MODEL.IMAGE_SIZE
    with torch.device("meta"), torch.no_grad():
        network = (pose if is_pose else classification).build(config).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, height, width))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(counter.get_total_flops() / 2e9, parameters / 1e6, [width, height])


def run(cfg: Path, output: Optional[Path]) -> None:
    """Print the cost, and write its record."""
    cost = count(load_config(cfg))
    if output:
        make_folder(output.parent)
        write_record(output, "cost", asdict(cost))
    size = " x ".join(map(str, cost.size))
    print(f"{cfg.stem}: {cost.gmacs:.4f} GMACs at {size}, {cost.params_m:.3f} M parameters")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.cost", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--output", type=Path, help="record to write (JSON)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
