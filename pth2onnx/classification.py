"""Export a classification checkpoint to ONNX and prove that the file computes the same.

Reads a config and a checkpoint (hrnet/nets/checkpoint.py says which kinds); writes the ONNX file, input `image` float32
[batch, 3, H, W], output `class` float32 [batch, classes], and beside it `<output>.json` with the proof.

    python -m pth2onnx.classification --cfg configs/hrnet_w18.yaml --input weights/hrnet_w18.pth \\
        --output build/hrnet_w18/model.onnx --opset 11
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import command
from hrnet.config import load_config
from hrnet.nets import checkpoint, classification
from hrnet.schemas import CLASSIFICATION
from pth2onnx import export
from pth2onnx.parity import SEED, images_like

BATCHES = (1, 2, 5)  # sizes compared: one image, and others, so that a batch baked into the graph shows
INTERFACE = export.Interface(
    input="image",  # the names of the seed's ATC command and outputs
    outputs=("class",),
    axes={"image": {0: "batch"}, "class": {0: "batch"}},
    operators=frozenset(
        ("Conv", "Relu", "Add", "Resize", "GlobalAveragePool", "Flatten", "Gemm", "Sigmoid", "Mul", "Constant")
    )
    | {"Identity"},
)


def pictures(config: CfgNode) -> list[np.ndarray]:
    """What is compared: float32 [N, 3, H, W] for each of BATCHES."""
    size, mean, std = config.MODEL.IMAGE_SIZE, config.INPUT.MEAN, config.INPUT.STD
    return [images_like(batch, size, mean, std, SEED + batch) for batch in BATCHES]


def run(cfg: Path, weights: Path, output: Path, opset: int) -> None:
    """Export, check, prove, then put the file and its record in place."""
    export.check_opset(opset)
    config = load_config(cfg, CLASSIFICATION)
    net, images = classification.build(config).eval(), pictures(config)
    metadata = {**export.describe(cfg.stem, config, checkpoint.load(net, weights)), "opset": str(opset)}
    make = partial(export.write_onnx, net, INTERFACE, images[0], metadata)
    export.write(net, images, metadata, output, "ONNX", make)


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.classification", description="Checkpoint to ONNX.")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config, ours or upstream's (.yaml)")
    parser.add_argument("--input", type=Path, required=True, help="checkpoint (.pth, .pth.tar, .safetensors)")
    parser.add_argument("--output", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--opset", type=int, default=11, help="ONNX operator set (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.input, args.output, args.opset)


if __name__ == "__main__":
    raise SystemExit(main())
