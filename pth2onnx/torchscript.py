"""Export a checkpoint to TorchScript, traced and frozen, and prove that the file computes the same as torch.

Reads    a config, of classification or of pose, and a checkpoint (hrnet/nets/checkpoint.py lists the formats)
Writes   the TorchScript file with its metadata inside (`metadata.json`); the proof, `<output>.json`; and
         its stamp

    python -m pth2onnx.torchscript --cfg hrnet_w18 --weights weights/hrnet_w18.pth --output build/hrnet_w18/model.ts

Input and outputs are those of pth2onnx.classification and pth2onnx.pose; the batch size is dynamic, and for pose models
height and width too. `pth2onnx.static` makes the file for infer from it. `--model_path` and `--ts_save_path` are flags
of the model zoo's export.py for Torch-AIE, which freezes and compares nothing. In a frozen file the weights are
constants of the graph, and each batch norm is folded into the convolution before it.
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
    """`net` (in evaluation mode) traced on `image`, as one graph that includes its weights."""
    with torchscript_warnings(), torch.no_grad():
        # Not strict, since the output may be a list. parity.prove checks the result, not the tracer, which has another
        # tolerance.
        traced = torch.jit.trace(net, torch.from_numpy(image), strict=False, check_trace=False)
        return torch.jit.freeze(traced)


def save(net: torch.jit.ScriptModule, metadata: Mapping[str, str], file: Path) -> None:
    """Write a module and its metadata."""
    # Through a file object: given a name, torch writes it into the archive, and `file` is a temporary name.
    with torchscript_warnings(), open(file, "wb") as stream:
        torch.jit.save(net, stream, _extra_files={METADATA: json.dumps(dict(metadata))})


def write(net: torch.nn.Module, image: np.ndarray, metadata: Mapping[str, str], file: Path) -> None:
    save(freeze(net, image), metadata, file)


def run(cfg: Path, weights: Path, output: Path) -> None:
    """Trace, freeze, prove, then put the file and its record in place."""
    task = TASKS[load_config(cfg).MODEL.NAME]
    export.export(task, cfg, weights, output, "TorchScript", SCRIPT, write, {})


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    return export.parser(SCRIPT, "TorchScript", weights="--model_path", output="--ts_save_path").parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
