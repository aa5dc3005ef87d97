"""Export a checkpoint to TorchScript (traced and frozen) and check that the file computes the same outputs as PyTorch.

Reads    a classification or pose config and a checkpoint (hrnet/nets/checkpoint.py lists the formats)
Writes   the TorchScript file, which contains its metadata (`metadata.json`); the comparison with PyTorch,
         `<output>.json`; and a stamp

    python -m pth2onnx.torchscript --cfg hrnet_w18 --weights weights/hrnet_w18.pth --output build/hrnet_w18/model.ts

Input and outputs are the same as in pth2onnx.classification and pth2onnx.pose. The batch size is dynamic, for pose
models also height and width. The next step is `pth2onnx.static`, which writes the file for infer. `--model_path` and
`--ts_save_path` are aliases from the model zoo's export.py for Torch-AIE; that script does not freeze or compare. In a
frozen file the weights are constants of the graph, and each batch norm is folded into the convolution before it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from hrnet.cli import command
from hrnet.config import load_config
from hrnet.io.torchscript import METADATA
from pth2onnx import classification, export, pose
from pth2onnx.parity import torchscript_warnings

SCRIPT = "pth2onnx.torchscript"
TASKS = {task.name: task for task in (classification.TASK, pose.TASK)}  # by MODEL.NAME


def freeze(net: torch.nn.Module, image: np.ndarray) -> torch.jit.ScriptModule:
    """Trace `net` (in evaluation mode) with `image` into one graph that includes the weights."""
    with torchscript_warnings(), torch.no_grad():
        # strict=False allows a list of outputs. No check_trace, since parity.check_parity checks the file.
        traced = torch.jit.trace(net, torch.from_numpy(image), strict=False, check_trace=False)
        return torch.jit.freeze(traced)


def save(net: torch.jit.ScriptModule, metadata: Mapping[str, str], file: Path) -> None:
    """Write a module and its metadata."""
    # A file object, since torch would write a file name into the archive, and `file` is a temporary name.
    with torchscript_warnings(), open(file, "wb") as stream:
        torch.jit.save(net, stream, _extra_files={METADATA: json.dumps(dict(metadata))})


def write(net: torch.nn.Module, image: np.ndarray, metadata: Mapping[str, str], file: Path) -> None:
    save(freeze(net, image), metadata, file)


def run(cfg: Path, weights: Path, output: Path) -> None:
    """Export the checkpoint, compare the file with PyTorch and write its record."""
    task = TASKS[load_config(cfg, *TASKS).MODEL.NAME]
    export.export(task, cfg, weights, output, "TorchScript", SCRIPT, write, {})


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    return export.parser(SCRIPT, "TorchScript", weights="--model_path", output="--ts_save_path").parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
