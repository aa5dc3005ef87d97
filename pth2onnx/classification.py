"""Export a classification checkpoint to ONNX and check that the file computes the same outputs as PyTorch.

Reads    a config and a checkpoint (hrnet/nets/checkpoint.py lists the formats)
Writes   the ONNX file: input `image` float32 [batch, 3, H, W], output `class` float32 [batch, classes]; the
         comparison with PyTorch, `<output>.json`; and a stamp

    python -m pth2onnx.classification --cfg hrnet_w18 --weights weights/hrnet_w18.pth \\
        --output build/hrnet_w18/model.onnx

`--input` is an alias of `--weights`, from the model zoo's hrnet_pth2onnx.py.
"""

from __future__ import annotations

import argparse
import sys
from typing import Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import command
from hrnet.nets import classification
from hrnet.schemas import CLASSIFICATION
from pth2onnx import export
from pth2onnx.parity import SEED, images_like

SCRIPT = "pth2onnx.classification"
BATCHES = (1, 2, 5)  # batch sizes to compare; several, to detect a batch size that is fixed in the graph
# fmt: off
OPERATORS = frozenset((
    "Conv", "Relu", "Add", "Resize", "GlobalAveragePool", "Flatten", "Gemm", "Sigmoid", "Mul", "Constant", "Identity",
))
# fmt: on
INTERFACE = export.Interface(
    input="image",  # the names in the model zoo's ATC command
    outputs=("class",),
    axes={"image": {0: "batch"}, "class": {0: "batch"}},
    operators=OPERATORS,
)


def compared_images(config: CfgNode) -> list[np.ndarray]:
    """float32 [N, 3, H, W] for each N of BATCHES."""
    size, mean, std = config.MODEL.IMAGE_SIZE, config.INPUT.MEAN, config.INPUT.STD
    return [images_like(batch, size, mean, std, SEED + batch) for batch in BATCHES]


TASK = export.Task(CLASSIFICATION, classification.build, lambda _: INTERFACE, compared_images, lambda net: net)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    return export.parser(SCRIPT, "ONNX", weights="--input").parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    export.export_onnx(TASK, SCRIPT, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
