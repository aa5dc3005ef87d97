"""Export a HigherHRNet checkpoint to ONNX and check that the file computes the same outputs as PyTorch.

Reads    a config and a checkpoint (hrnet/nets/checkpoint.py lists the formats)
Writes   the ONNX file: input `input` float32 [batch, 3, H, W], outputs `output1` (heatmaps and tags at 1/4 of the
         input size) and `output2` (heatmaps at 1/2); batch, height and width are dynamic, height and width are
         multiples of 32; the comparison with PyTorch, `<output>.json`; and a stamp

    python -m pth2onnx.pose --cfg higher_hrnet_w32_512 --weights weights/higher_hrnet_w32_512.pth \\
        --output build/higher_hrnet_w32_512/model.onnx

The comparison uses the first, the middle and the last gear of the config (without gears: a portrait, a square and a
landscape size), and a batch of two images. `--onnx_path`, an alias of `--output`, and the default config come from the
model zoo's HigherHRNet_pth2onnx.py.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval
from yacs.config import CfgNode

from hrnet.cli import command
from hrnet.gears import STEP
from hrnet.nets import pose
from hrnet.schemas import POSE
from pth2onnx import export
from pth2onnx.parity import SEED, images_like

SCRIPT = "pth2onnx.pose"
INPUT = "input"  # the name in the model zoo's ATC command
OPERATORS = frozenset(("Conv", "ConvTranspose", "Relu", "Add", "Resize", "Concat", "Constant", "Identity"))


def interface(config: CfgNode) -> export.Interface:
    """`output1` has 1/4 of the input's height and width, and each further output twice the size of the one before."""
    names = tuple(f"output{k}" for k in range(1, len(pose.output_channels(config)) + 1))
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in names}
    return export.Interface(INPUT, names, {**axes, INPUT: {0: "batch", 2: "height", 3: "width"}}, OPERATORS)


def fold(net: torch.nn.Module) -> torch.nn.Module:
    """A copy of a PoseNet (in evaluation mode) in which each deconvolution includes the batch norm after it. PyTorch's
    exporters fold batch norms only into convolutions."""
    folded = copy.deepcopy(net)
    assert isinstance(folded, pose.PoseNet)
    for layers in folded.deconv_layers:
        upsample: torch.nn.Sequential = layers[0]  # type: ignore[index]
        convolution, norm, _ = upsample
        assert isinstance(convolution, torch.nn.ConvTranspose2d) and isinstance(norm, torch.nn.BatchNorm2d)
        upsample[0] = fuse_conv_bn_eval(convolution, norm, transpose=True)
        upsample[1] = torch.nn.Identity()
    return folded


def compared_sizes(config: CfgNode) -> list[tuple[int, Sequence[int]]]:
    """(batch size, (width, height) in pixels) of each batch to compare."""
    short = config.DATASET.INPUT_SIZE
    gears = config.INPUT.GEARS or [[short + STEP, short], [short, short], [short, short + STEP]]
    chosen = [gears[0], gears[len(gears) // 2], gears[-1]]
    return [(1, gear[::-1]) for gear in chosen] + [(2, chosen[1][::-1])]


def compared_images(config: CfgNode) -> list[np.ndarray]:
    """A float32 [N, 3, H, W] batch for each of `compared_sizes`."""
    mean, std = config.INPUT.MEAN, config.INPUT.STD
    return [images_like(batch, size, mean, std, SEED + i) for i, (batch, size) in enumerate(compared_sizes(config))]


TASK = export.Task(POSE, pose.build, interface, compared_images, fold)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    return export.parser(SCRIPT, "ONNX", output="--onnx_path", cfg="higher_hrnet_w32_512").parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    export.export_onnx(TASK, SCRIPT, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
