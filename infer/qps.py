"""The call of the model zoo's eval.py for Torch-AIE (seed 000), done by the call of make that it stands for.

    python -m infer.qps --batch_size 1 --device_id 0 --dataset /data/imagenet/val
        --label_file /data/imagenet/val_label.txt --traced_model build/hrnet_w18/model.ts

Reads    a TorchScript file, of pth2onnx.torchscript or of the public export.py, and a folder of images with its labels
Writes   what `make qps` writes, below --build: inputs, outputs and metrics of each batch, the table

`make qps` prints Top-1, Top-5 and QPS in the words of eval.py. Its faults are not ours: a step too many in the rate,
batch 1 fed to a model of another batch, the last short batch dropped, images that have no label.
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
SEED_MODEL = "hrnet_w18"  # what eval.py is for
BACKENDS = ("auto", "torchscript", "torch_aie")


def place_dataset(images: Path, labels: Path, build: Path) -> Path:
    """The folder that holds `images` as val/ and `labels` as val_label.txt: theirs, or one of links below `build`."""
    if not images.is_dir():
        raise UserError("no such folder of images", where=images)
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
    """The config's name: the given one, else what the file tells, else the seed's."""
    told = read_metadata(traced).get("model", SEED_MODEL)
    if not (ROOT / "configs" / f"{name or told}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
        raise UserError(f"no config {name or told}", where=traced, hint=f"give --model, one of {known}")
    return name or told


def build_command(args: argparse.Namespace) -> list[str]:
    """The call of make."""
    backend = args.backend
    if backend == "auto":
        backend = "torch_aie" if importlib.util.find_spec("torch_aie") else "torchscript"
    model = find_model(args.traced_model, args.model)
    values = {
        "MODEL": model,
        "TS": args.traced_model.absolute(),
        "DATASET": place_dataset(args.dataset, args.label_file, args.build),
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
    """Call make; it and the stages say what they do, and what is amiss."""
    spelled = build_command(args)
    print(shlex.join(spelled), flush=True)
    try:
        code = subprocess.run(spelled, stdin=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        raise UserError("no make here", expected="GNU make 4.2 or later") from None
    if code:
        raise UserError(f"make exited with {code}, see above")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.qps", description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=integer(1), nargs="+", default=[1], help="one or several (%(default)s)")
    parser.add_argument("--device_id", type=integer(0), default=0, help="of the NPU, or of CUDA; the CPU is 0")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of the images: /path/to/imagenet/val")
    parser.add_argument("--label_file", type=Path, required=True, help="lines `name.JPEG index`")
    parser.add_argument("--traced_model", type=Path, required=True, help="the TorchScript file")
    parser.add_argument("--model", default="", help=f"a name in configs/ (as the file tells, else {SEED_MODEL})")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="auto: torch_aie where it is installed")
    parser.add_argument(
        "--precision", choices=("default", "fp16", "fp32"), default="default", help="fp32; of torch_aie fp16"
    )
    parser.add_argument("--soc_version", default="Ascend310P3", help="the chip that torch_aie compiles for")
    parser.add_argument("--build", type=Path, default=Path("build/qps"), help="where the products go (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
