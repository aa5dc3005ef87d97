"""Export a checkpoint to TorchScript, traced and frozen, and prove that the file computes the same.

Reads a config, of classification or of pose, and a checkpoint (hrnet/nets/checkpoint.py says which kinds); writes the
TorchScript file, with what it tells about itself in it as `metadata.json`, and beside it `<ts_save_path>.json` with the
proof. Input and outputs are those of pth2onnx.classification and pth2onnx.pose, the batch free, of pose height and
width too; `pth2onnx.static` makes of it what infer takes.

    python -m pth2onnx.torchscript --cfg configs/hrnet_w18.yaml --model_path weights/hrnet_w18.pth \\
        --ts_save_path build/hrnet_w18/model.ts

The flags are those of the model zoo's export.py for Torch-AIE (seed 000), which freezes and compares nothing. Frozen,
the weights are constants of the graph and each batch norm is in the convolution before it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch

from hrnet.cli import command
from hrnet.config import load_config
from hrnet.io.torchscript import METADATA
from hrnet.nets import checkpoint, classification, pose
from hrnet.schemas import POSE
from pth2onnx import classification as of_classes
from pth2onnx import export
from pth2onnx import pose as of_poses
from pth2onnx.parity import torchscript_warnings


def freeze(net: torch.nn.Module, example: np.ndarray) -> torch.jit.ScriptModule:
    """`net` (in evaluation mode) traced on `example`, as one graph with its weights in it."""
    with torchscript_warnings(), torch.no_grad():
        # Not strict, as a list may come out; not checked by the tracer, whose tolerance is not ours.
        traced = torch.jit.trace(net, torch.from_numpy(example), strict=False, check_trace=False)
        return torch.jit.freeze(traced)


def save(net: torch.jit.ScriptModule, metadata: Mapping[str, str], file: Path) -> None:
    """Write a module and what it tells about itself."""
    # Through a file object: given a name, torch puts it into the archive, and the temporary one is not the file's.
    with torchscript_warnings(), open(file, "wb") as stream:
        torch.jit.save(net, stream, _extra_files={METADATA: json.dumps(dict(metadata))})


def run(cfg: Path, weights: Path, output: Path) -> None:
    """Trace, freeze, prove, then put the file and its record in place."""
    config = load_config(cfg)
    is_pose = config.MODEL.NAME == POSE
    net: Union[pose.PoseNet, classification.ClassificationNet]
    net = pose.build(config).eval() if is_pose else classification.build(config).eval()
    images = of_poses.pictures(config) if is_pose else of_classes.pictures(config)
    metadata = export.describe(cfg.stem, config, checkpoint.load(net, weights))

    def make(file: Path) -> None:
        save(freeze(of_poses.fold(net) if isinstance(net, pose.PoseNet) else net, images[0]), metadata, file)

    export.write(net, images, metadata, output, "TorchScript", make)


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.torchscript", description="Checkpoint to TorchScript.")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config, ours or upstream's (.yaml)")
    parser.add_argument("--model_path", type=Path, required=True, help="checkpoint (.pth, .pth.tar, .safetensors)")
    parser.add_argument("--ts_save_path", type=Path, required=True, help="TorchScript file to write")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.model_path, args.ts_save_path)


if __name__ == "__main__":
    raise SystemExit(main())
