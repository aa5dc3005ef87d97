"""Export a HigherHRNet checkpoint to ONNX and prove that the file computes the same.

Reads a config and a checkpoint (hrnet/nets/checkpoint.py says which kinds); writes the ONNX file, input `input` float32
[batch, 3, H, W], outputs `output1` (heatmaps and tags at 1/4) and `output2` (heatmaps at 1/2), and beside it
`<onnx_path>.json` with the proof. Batch, height and width are dynamic; height and width are multiples of 32.

    python -m pth2onnx.pose --cfg configs/higher_hrnet_w32_512.yaml --weights weights/higher_hrnet_w32_512.pth \\
        --onnx_path build/higher_hrnet_w32_512/model.onnx --opset 11

Compared with torch are the first, the middle and the last of the config's gears, and two images at once.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval
from yacs.config import CfgNode

from hrnet.cli import command
from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, pose
from hrnet.schemas import POSE
from pth2onnx import export
from pth2onnx.parity import SEED, images_like

INPUT = "input"  # of the seed's ATC command
STRIDE = 64  # pixels between two gears, for a config that has none


def interface(outputs: int) -> export.Interface:
    """Of a file with so many outputs, `output1` at 1/4 of the image, each further one twice as fine."""
    names = [f"output{k}" for k in range(1, outputs + 1)]
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in names}
    axes[INPUT] = {0: "batch", 2: "height", 3: "width"}
    operators = frozenset(("Conv", "ConvTranspose", "Relu", "Add", "Resize", "Concat", "Constant", "Identity"))
    return export.Interface(INPUT, tuple(names), axes, operators)


def fold(net: pose.PoseNet) -> pose.PoseNet:
    """A copy of `net` (in evaluation mode) with each deconvolution's batch norm in its weights: the exporter itself
    folds those of convolutions alone."""
    folded = copy.deepcopy(net)
    for upsample in folded.upsamplings():
        convolution, norm, _ = upsample
        assert isinstance(convolution, torch.nn.ConvTranspose2d) and isinstance(norm, torch.nn.BatchNorm2d)
        upsample[0] = fuse_conv_bn_eval(convolution, norm, transpose=True)
        upsample[1] = torch.nn.Identity()
    return folded


def sizes(config: CfgNode) -> list[tuple[int, Sequence[int]]]:
    """What is compared: (batch, (width, height) in pixels)."""
    short = config.DATASET.INPUT_SIZE
    gears = config.INPUT.GEARS or [[short + STRIDE, short], [short, short], [short, short + STRIDE]]
    some = [gears[0], gears[len(gears) // 2], gears[-1]]
    return [(1, gear[::-1]) for gear in some] + [(2, some[1][::-1])]


def pictures(config: CfgNode) -> list[np.ndarray]:
    """Pictures of these sizes: float32 [N, 3, H, W] each."""
    normal = (config.INPUT.MEAN, config.INPUT.STD)
    return [images_like(batch, size, *normal, SEED + i) for i, (batch, size) in enumerate(sizes(config))]


def run(cfg: Path, weights: Path, output: Path, opset: int) -> None:
    """Export, check, prove, then put the file and its record in place."""
    export.check_opset(opset)
    config = load_config(cfg, POSE)
    net, images = pose.build(config).eval(), pictures(config)
    metadata = {**export.describe(cfg.stem, config, checkpoint.load(net, weights)), "opset": str(opset)}
    make = partial(export.write_onnx, fold(net), interface(len(net.final_layers)), images[0], metadata)
    export.write(net, images, metadata, output, "ONNX", make)


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.pose", description="HigherHRNet checkpoint to ONNX.")
    default = CONFIGS / "higher_hrnet_w32_512.yaml"
    parser.add_argument("--cfg", type=Path, default=default, help="the model's config (%(default)s)")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint (.pth, .pth.tar, .safetensors)")
    parser.add_argument("--onnx_path", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--opset", type=int, default=11, help="ONNX operator set (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.weights, args.onnx_path, args.opset)


if __name__ == "__main__":
    raise SystemExit(main())
