"""Print what the result of a part depends on: code, config, model, images, and versions of packages on this machine.

    python -m make.machine --cfg hrnet_w18 --dataset /data/imagenet --model build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --backend onnxruntime --shard 3/16

Prints one JSON object on the last line. make.cluster compares the description of each node with that of its own
machine. A node that differs would compute a part that `make merge` rejects, or a part with other pixels, which nothing
would report.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Optional

from hrnet.cli import UserError, command, integer
from hrnet.config import add_cfg_argument
from hrnet.hints import install
from hrnet.shards import shard
from make.doctor_tools import UNKNOWN, version_of
from make.packages import PACKAGES

STAGE_PACKAGES = ("numpy", "opencv-python-headless", "Pillow", "pycocotools", "simplejpeg")  # compute pixels or results
RUNTIMES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torchscript": "torch"}  # BACKEND -> package
DIFFERENCES = {  # field -> the start of the error
    "code_sha256": "another version of the code",
    "config_sha256": "another config",
    "model_sha256": "another compiled model",
    "list_sha256": "another image list",
    "available": "another number of images",
    "index_sha256": "image files with other sizes in bytes or other modification times",
}
HINTS = {
    "code_sha256": "remove {folder} there, so that it is unpacked again",
    "config_sha256": "remove {folder} there, so that it is unpacked again",
    "model_sha256": "remove {folder} there, so that it is unpacked again",
    "list_sha256": "give DATASET=<a directory that all nodes share>",
    "available": "give DATASET=<a directory that all nodes share>",
    "index_sha256": "share the directory, or copy it with its times: rsync -a",
}


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """{field: value}. Raises UserError if the data set or the model cannot be read."""
    from hrnet.code import stages_sha256  # imported here, after make doctor has checked the packages
    from make.shards import Run, Stages, find, identity, load_model

    config, compiled = load_model(args)
    run = Run(args, config, compiled, Stages({}))
    listed = find(args.dataset, run.task, config)
    fields, _ = identity(run, args.shard, listed, stages_sha256(run.task))
    names = [*STAGE_PACKAGES, *filter(None, [RUNTIMES.get(args.backend)])]
    versions = {name: version_of(name, PACKAGES[name].module) for name in names}
    return {**{name: fields[name] for name in DIFFERENCES}, **versions}


def check(node: str, folder: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise UserError with the first difference between a node's description and this machine's."""
    for name, wanted in expected.items():
        if found.get(name) == wanted:
            continue
        if name in HINTS:
            hint = HINTS[name].format(folder=folder)
        elif wanted in (None, UNKNOWN):
            hint = f"on this machine: {install(name, PACKAGES[name].extra)}"
        else:
            hint = f'pip install "{name}=={wanted}" there'
        values = ["none" if value is None else str(value)[:16] for value in (wanted, found.get(name))]
        what = DIFFERENCES.get(name, f"another version of {name}")
        raise UserError(what, where=node, expected=values[0], found=values[1], hint=hint)


def read(output: str) -> dict[str, Any]:
    """The description in the output of this script. Raises UserError if there is none."""
    lines = output.strip().splitlines() or [""]
    try:
        found = json.loads(lines[-1])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError("no description of the machine", found=repr(lines[-1][:80]))
    return found


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.machine", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--limit", type=integer(0), default=0, help="only the first N images; 0: all")
    parser.add_argument("--model", type=Path, required=True, help="compiled model, with its record beside it")
    parser.add_argument("--flip", action="store_true", help="pose: with the flip test")
    parser.add_argument("--backend", required=True, help="backend whose package versions are listed")
    parser.add_argument("--shard", type=shard, required=True, help="the part whose images are described")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    print(json.dumps(describe(parse_args(argv))))


if __name__ == "__main__":
    sys.exit(main())
