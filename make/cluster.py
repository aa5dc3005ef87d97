"""Compute the parts of a data set on the nodes of a Ray cluster.

    RAY_ADDRESS=head:6379 make cluster MODEL=hrnet_w18 DATASET=/data/imagenet SHARDS=64

Called by `make cluster`, which then merges the parts; the arguments are those of make.shards and a few more. Each node
needs make, the packages, and the images in the same directory as on this machine. Code, config and model are sent as a
bundle (make/bundle.py), and parts return through Ray. Each node runs `make part` in the unpacked bundle: one part at a
time, or one on each NPU. Without RAY_ADDRESS a cluster on this machine is started.

Reads    what make.shards reads; on each node the images
Writes   <parts>/<k>-of-<n>.json with the files beside it, each as soon as it arrives; data.json, for make
Locks    <parts>/cluster_lock
Rejects  a node on which `make doctor` finds something missing, or whose code, packages or images differ
         (make/machine.py)
Resumes  finished parts are kept, as in make.shards. A part that failed, or whose process or node died, is computed
         again, on another node if there is one; three attempts in all (ATTEMPTS in make/schedule.py)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Optional

from hrnet.cli import WorkFailed, command, first_few, integer
from hrnet.code import ROOT, import_closure
from hrnet.io.files import locked, write_atomic
from hrnet.io.parts import Part
from hrnet.io.records import FormatError, write_record
from hrnet.shards import Shard
from make import bundle, machine, shards
from make.call import NPU_BACKENDS
from make.ray_nodes import Outcome, RayNodes
from make.schedule import Job, Plan, Progress, Scheduler


def store(parts: Path, part: Shard, outcome: Outcome) -> int:
    """Write the files of a part, its record last. Returns its number of images. Raises FormatError if the files are not
    those of this part."""
    record = parts / f"{part.name}.json"
    for name in sorted(outcome.files, key=lambda name: name == record.name):
        write_atomic(parts / Path(name).name, outcome.files[name])
    found = Part.read(record)
    if found.part != part:
        raise FormatError("wrong part number", where=record, expected=part, found=found.part)
    return found.images


def reference_files(args: argparse.Namespace) -> dict[str, bundle.Source]:
    """{name in the bundle: file} for the command --reference: its code, and the checkpoint or ONNX file."""
    if not args.reference:
        return {}
    words = shlex.split(args.reference)
    code = import_closure([words[words.index("-m") + 1], "atc.classifier"])
    weights = [args.weights, *args.weights.parent.glob(f"{args.weights.name}[._]data")]
    return {**{path.as_posix(): ROOT / path for path in code}, **{f"weights/{path.name}": path for path in weights}}


def pack(args: argparse.Namespace) -> tuple[bytes, str]:
    """The bundle for the nodes, and the name of its directory there, which depends on the bundle's content."""
    settings = dict(args.set or [])
    if args.reference:
        settings["ONNX" if settings["REFERENCE"] == "onnx" else "WEIGHTS"] = f"weights/{args.weights.name}"
    nothing = dict.fromkeys(("inputs", "inputs_flip", "annotations", "reference"))
    files, _ = bundle.collect(argparse.Namespace(**{**vars(args), **nothing, "set": settings.items()}))
    files.update(reference_files(args))
    # another checkout gets another name, so it does not remove this directory while it is in use
    mine = f"{platform.node()} {args.parts.absolute()} {bundle.digest(files)}"
    name = f"{args.cfg.stem}-{hashlib.sha256(mine.encode()).hexdigest()[: bundle.DIGITS]}"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "bundle.tar")
        bundle.write_tar(path, name, files)
        return path.read_bytes(), name


def job_of(run: shards.Run, part: Shard) -> Job:
    """The commands for the nodes, the same for all parts. `part`: one of them, as a sample: its images on each node are
    compared with those on this machine."""
    args = run.args
    dataset, model, cfg = str(args.dataset.absolute()), f"model/{args.model.name}", f"configs/{args.cfg.name}"
    settings = [f"DATASET={dataset}", f"SHARDS={args.shards}", "DEVICE=0", "PYTHON={python}"]
    check = [["make", "doctor", *settings]]
    if run.config.MODEL.NAME == "onnx" and args.reference:  # the bundle has the ONNX file, so make completes the config
        cfg = f"build/{args.cfg.stem}/{args.cfg.stem}.yaml"
        check.append(["make", cfg, *settings])
    words = ["--cfg", cfg, "--dataset", dataset, "--limit", str(args.limit), "--model", model]
    words += ["--backend", args.backend, "--shard", str(part), *(["--flip"] if args.flip else [])]
    check.append(["{python}", "-m", "make.machine", *words])
    return Job(check, settings, machine.describe(argparse.Namespace(**vars(args), shard=part)))


def run(args: argparse.Namespace) -> None:
    """Compute all parts that are not finished."""
    whole = shards.open_run(args)
    parts = [Shard(number, args.shards) for number in range(1, args.shards + 1)]
    with locked(args.parts / "cluster_lock"):
        todo = [part for part, stages in shards.needed(whole, parts).items() if stages]
        if len(todo) < len(parts):
            print(f"{len(parts) - len(todo)} of {len(parts)} parts were finished before and are kept")
        if todo:
            compute(whole, todo)
            if left := [part for part, stages in shards.needed(whole, todo).items() if stages]:
                names = first_few(map(str, left))
                what = f"images, model or code changed during the run: part {names} is out of date"
                raise WorkFailed(what, where=args.dataset, hint="run make cluster again")
        write_record(args.parts / "data.json", "data", {"data": whole.state})  # make/changed.py reads it


def compute(whole: shards.Run, todo: list[Shard]) -> None:
    """Compute these parts on a cluster, then remove the bundle from its nodes."""
    args = whole.args
    job = job_of(whole, todo[0])
    archive, name = pack(args)
    with RayNodes(os.environ.get("RAY_ADDRESS", ""), npu=args.backend in NPU_BACKENDS) as nodes:
        nodes.send(archive, name)
        progress = Progress(args.shards - len(todo), args.shards)
        Scheduler(nodes, job, lambda part, outcome: store(args.parts, part, outcome), progress).compute(Plan(todo))
        for node, why in nodes.clean().items():
            print(f"{node}: cannot remove {name}: {why}", file=sys.stderr)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.cluster", description=__doc__.splitlines()[0])
    shards.add_arguments(parser)
    parser.add_argument("--shards", type=integer(1), required=True, help="number of parts")
    parser.add_argument(
        "--backend",
        required=True,
        help="ascend and torch_aie: each part needs an NPU; else each part gets a whole node",
    )
    parser.add_argument("--set", type=bundle.setting, action="append", metavar="NAME=value", help="a make variable")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
