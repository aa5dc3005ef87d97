"""Time HRNet, HigherHRNet and training on a GPU with torch: float32, TF32, float16, CUDA graphs and torch.compile.

Reads    three configs, and the digits of data.digits for training; the weights are random with a fixed seed
Writes   gpu.json (all rows, the machine and the versions) and gpu.md (tables), again after each row

    python -m data.digits
    python -m benchmarks.gpu --output build/gpu

A row is a network with one batch size in one mode. Its images are on the GPU, in the mode's dtype and layout: copies
from and to the host are not timed. Its outputs are compared with float32 outputs of the CPU, and those of a CUDA graph
must equal the outputs without it. Training is timed from files to updated weights. Rows with torch.compile run last,
since compiling takes longest. --seconds is the time for all rows: a row that would end later is not started, and is
listed as missing. The run fails if outputs are wrong. Without CUDA the same rows run on the CPU, except CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import torch

from benchmarks.gpu_rows import MODES, Network, Row, infer, train
from hrnet.cli import WorkFailed, command, integer, real
from hrnet.config import add_cfg_argument, config_path, load_config
from hrnet.io.files import make_folder, write_text
from hrnet.machine import machine
from hrnet.markdown import table
from hrnet.nets import classification, pose
from hrnet.schemas import CLASSIFICATION, POSE
from train.batches import SEED
from train.classification.task import ClassificationTask


class Job(NamedTuple):
    """A row that is to be measured."""

    name: str
    mode: str
    work: Callable[[], Row]


def list_jobs(args: argparse.Namespace, device: torch.device) -> list[Job]:
    """All rows in their order. Raises UserError for a bad config or data set."""
    config, people = load_config(args.cfg, CLASSIFICATION), load_config(args.pose_cfg, POSE)
    task = ClassificationTask(load_config(args.train_cfg, CLASSIFICATION))
    task.samples(args.dataset)
    torch.manual_seed(SEED)
    side = people.DATASET.INPUT_SIZE
    networks = [
        (Network(args.cfg.stem, classification.build(config), config.MODEL.IMAGE_SIZE), args.batches),
        (Network(args.pose_cfg.stem, pose.build(people), [side, side]), args.pose_batches),
    ]

    def inference(network: Network, batch: int, mode: str) -> Job:
        name = f"{network.name}, batch {batch}, {MODES[mode].label}"
        return Job(name, mode, lambda: infer(network, batch, mode, args.rounds, device))

    def training(precision: str) -> Job:
        stem = args.train_cfg.stem
        return Job(f"{stem}, training, {precision}", "", lambda: train(stem, task, args.dataset, precision, device))

    jobs = [inference(network, batch, mode) for network, sizes in networks for batch in sizes for mode in args.modes]
    return [
        *(job for job in jobs if job.mode != "compile"),
        *map(training, ("fp32", "mixed")),
        *(job for job in jobs if job.mode == "compile"),
    ]


def describe(device: torch.device) -> dict[str, Any]:
    """The machine and the versions."""
    facts = {**machine(), "device": "cpu", "python": platform.python_version(), "torch": torch.__version__}
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()
        facts.update(device=torch.cuda.get_device_name(device), cuda=torch.version.cuda, cudnn=cudnn)
    return facts


def tables(rows: Sequence[Row], missing: Sequence[str], facts: dict[str, Any]) -> str:
    """Images/s in Markdown, one table for each network; then the wrong and the missing rows."""
    parts = [", ".join(f"{name} {value}" for name, value in facts.items()) + "\n"]
    for network in dict.fromkeys(row.network for row in rows):
        mine = {(row.mode, row.batch): row for row in rows if row.network == network}
        sizes, lines = sorted({batch for _, batch in mine}), []
        for mode in dict.fromkeys(mode for mode, _ in mine):
            rates = [f"{mine[mode, size].images_per_second:,.0f}" if (mode, size) in mine else "-" for size in sizes]
            found = [row.difference for row in mine.values() if row.mode == mode and row.difference is not None]
            lines.append([mode, *rates, f"{max(found):.1e}" if found else "-"])
        parts.append(table([f"{network}, images/s", *(f"batch {size}" for size in sizes), "largest difference"], lines))
    notes = [f"wrong: {name(row)}: {row.error}" for row in rows if row.error] + [f"missing: {line}" for line in missing]
    return "\n".join([*parts, *(f"- {note}" for note in notes)]) + "\n"


def name(row: Row) -> str:
    return f"{row.network}, batch {row.batch}, {row.mode}"


def run(args: argparse.Namespace) -> None:
    """Measure the rows for which there is time, write the results after each, and print the tables."""
    began = time.monotonic()
    make_folder(args.output)
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    rows: list[Row] = []
    missing: list[str] = []
    longest: dict[str, float] = {}  # seconds of a row in each mode
    facts = describe(device)
    for job in list_jobs(args, device):
        started = time.monotonic()
        if job.mode == "graph" and device.type != "cuda":
            missing.append(f"{job.name}: needs CUDA")
        elif started - began + longest.get(job.mode, 0.0) > args.seconds:
            missing.append(f"{job.name}: no time left of {args.seconds:g} s")
        else:
            try:
                row = job.work()
            except RuntimeError as error:  # of torch: not enough memory, or its compiler failed
                missing.append(f"{job.name}: {' '.join(str(error).split())[:200]}")
            else:
                row.seconds = time.monotonic() - started
                longest[job.mode] = max(longest.get(job.mode, 0.0), row.seconds)
                rows.append(row)
                print(f"{name(row)}: {row.images_per_second:.1f} images/s, {row.seconds:.1f} s {row.error}", flush=True)
        record = {"machine": facts, "rows": [asdict(row) for row in rows], "missing": missing}
        write_text(args.output / "gpu.json", json.dumps(record, indent=1) + "\n")
        write_text(args.output / "gpu.md", tables(rows, missing, facts))
    print(tables(rows, missing, facts))
    if wrong := [name(row) for row in rows if row.error]:
        raise WorkFailed("rows with wrong outputs", where=args.output / "gpu.json", found="; ".join(wrong))


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, "hrnet_w18")
    text = "%s: a name in configs/, or the path of a YAML file (%%(default)s)"
    parser.add_argument("--pose_cfg", type=config_path, default="higher_hrnet_w32_512", help=text % "pose model")
    parser.add_argument("--train_cfg", type=config_path, default="demo_digits", help=text % "model to train")
    parser.add_argument("--dataset", type=Path, default=Path("data/digits"), help="images to train on (%(default)s)")
    sizes: dict[str, Any] = {"type": integer(1), "nargs": "+", "metavar": "N"}
    parser.add_argument("--batches", default=[1, 4, 8, 16, 32, 64], **sizes, help="batch sizes (%(default)s)")
    parser.add_argument("--pose_batches", default=[1, 8], **sizes, help="batch sizes of the pose model (%(default)s)")
    parser.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES), help="modes (%(default)s)")
    text = "timed rounds for each network, batch size and mode (%(default)s)"
    parser.add_argument("--rounds", type=integer(1), default=9, help=text)
    parser.add_argument("--seconds", type=real(above=0), default=440.0, help="time for all rows (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="output directory (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
