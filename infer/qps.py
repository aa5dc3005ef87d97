"""Convert the command line of the model zoo's eval.py for Torch-AIE to `make qps`, and run it.

    python -m infer.qps --batch_size 1 --device_id 0 --dataset /data/imagenet/val \\
        --label_file /data/imagenet/val_label.txt --traced_model build/hrnet_w18/model.ts

Reads    a TorchScript file of pth2onnx.torchscript or of the model zoo's export.py, and a directory of labelled images
Writes   the results of `make qps` below --build: inputs, outputs and metrics for each batch size, and the table

`make qps` prints Top-1, Top-5 and QPS in the format of eval.py. It corrects three errors: eval.py counts one step
too many in the rate, gives batches of 1 to a model that was compiled for another batch size, and drops an incomplete
last batch. Images without a label are rejected.
Source: https://gitee.com/ascend/ModelZoo-PyTorch, AscendIE/TorchAIE/built-in/cv/classification/HRNet/eval.py.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, command, integer
from hrnet.io.files import make_folder
from hrnet.io.torchscript import read_metadata

ROOT = Path(__file__).resolve().parents[1]
ZOO_MODEL = "hrnet_w18"  # the model of eval.py
BACKENDS = ("auto", "torchscript", "torch_aie")


def find_dataset(images: Path, labels: Path, build: Path) -> Path:
    """A directory with `images` as val/ and `labels` as val_label.txt: their parent, or a new directory of links below
    `build`."""
    if not images.is_dir():
        raise UserError("no such directory of images", where=images)
    if not labels.is_file():
        raise UserError("no such label file", where=labels, expected="lines `name.JPEG index`")
    images, labels = images.absolute(), labels.absolute()
    if images.name == "val" and labels == images.parent / "val_label.txt":
        return images.parent
    name = hashlib.sha256(os.fsencode(f"{images}\0{labels}")).hexdigest()[:8]
    folder = make_folder(build.absolute() / f"data-{name}")
    for link, target in ((folder / "val", images), (folder / "val_label.txt", labels)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return folder


def find_model(traced: Path, name: str) -> str:
    """The name of the config: `name`, else from the TorchScript file, else the model zoo's model."""
    name = name or read_metadata(traced).get("model", ZOO_MODEL)
    if not (ROOT / "configs" / f"{name}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
        raise UserError(f"no config for model {name}", where=traced, hint=f"give --model with one of {known}")
    return name


def build_command(args: argparse.Namespace) -> list[str]:
    """Build the command line of make."""
    backend = args.backend
    if backend == "auto":
        backend = "torch_aie" if any(map(importlib.util.find_spec, ("mindietorch", "torch_aie"))) else "torchscript"
    model = find_model(args.traced_model, args.model)
    values = {
        "MODEL": model,
        "TS": args.traced_model.absolute(),
        "DATASET": find_dataset(args.dataset, args.label_file, args.build),
        "BATCHES": " ".join(map(str, args.batch_size)),
        "DEVICE": args.device_id,
        "BACKEND": backend,
        "PRECISION": args.precision,
        "SOC": args.soc_version,
        "BUILD": args.build.absolute(),
        "PYTHON": sys.executable,
    }
    start = ["make", "--no-print-directory", "-C", str(ROOT), "qps"]
    return start + [f"{name}={value}" for name, value in values.items()]


def run(args: argparse.Namespace) -> None:
    """Run make. Raises UserError if it fails."""
    command_line = build_command(args)
    print(shlex.join(command_line), flush=True)
    try:
        code = subprocess.run(command_line, stdin=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        raise UserError("make is not installed", expected="GNU make 4.2 or later") from None
    if code:
        raise UserError("make failed, see above", found=f"exit {code}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.qps", description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=integer(1), nargs="+", default=[1], help="one or more (default: 1)")
    parser.add_argument("--device_id", type=integer(0), default=0, help="NPU or CUDA device; 0 for the CPU")
    parser.add_argument("--dataset", type=Path, required=True, help="directory of images, such as /data/imagenet/val")
    parser.add_argument("--label_file", type=Path, required=True, help="label file with lines `name.JPEG index`")
    parser.add_argument("--traced_model", type=Path, required=True, help="TorchScript file")
    parser.add_argument("--model", default="", help=f"name in configs/ (default: from the file, else {ZOO_MODEL})")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="auto: torch_aie if Torch-AIE is installed")
    help_precision = "default: fp16 for torch_aie, else fp32"
    parser.add_argument("--precision", choices=("default", "fp16", "fp32"), default="default", help=help_precision)
    parser.add_argument("--soc_version", default="Ascend310P3", help="chip, only for torch_aie")
    parser.add_argument("--build", type=Path, default=Path("build/qps"), help="directory for all results (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
