"""Compute the parts of a data set on the nodes of a Ray cluster.

    RAY_ADDRESS=head:6379 make cluster MODEL=hrnet_w18 DATASET=/data/imagenet SHARDS=64

Called by `make cluster` with the arguments of make.shards; `make merge` follows. The nodes need make, the packages and
the images in the same directory. Code, config and model are sent as a bundle (make/bundle.py), and parts return through
Ray. Each node runs `make part` in the unpacked bundle: one part at a time, or one on each NPU. Without RAY_ADDRESS a
cluster on this machine is started.

Reads    what make.shards reads; on each node the images
Writes   <parts>/<k>-of-<n>.json with the files beside it, each as soon as it arrives; data.json, for make
Locks    <parts>/cluster_lock
Refuses  a node on which `make doctor` misses something, or whose code, packages or images differ (make/machine.py)
Resumes  finished parts are kept, as in make.shards. A part that failed, or whose process or node died, is computed
         again, on another node if there is one: ATTEMPTS times in all
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import platform
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Protocol

from hrnet.cli import UserError, WorkFailed, command, first_few, integer
from hrnet.code import ROOT, import_closure
from hrnet.io.files import locked, write_atomic
from hrnet.io.parts import Part
from hrnet.io.records import FormatError, write_record
from hrnet.shards import Shard
from make import bundle, machine, shards
from make.call import NPU_BACKENDS
from make.ray_nodes import Node, Outcome, RayNodes, last_line

ATTEMPTS = 3  # for each part
FAILURES = 3  # of different parts in a row, after which a node gets no more parts
POLL = 1.0  # seconds between two looks for new nodes


class Nodes(Protocol):
    """What compute needs from a cluster: see RayNodes."""

    def alive(self) -> list[Node]: ...
    def check(self, node: Node, commands: list[list[str]]) -> object: ...
    def entered(self, node: Node, outcome: Outcome) -> None: ...
    def start(self, node: Node, words: list[str], wanted: str) -> object: ...
    def wait(self, tasks: list[Any], seconds: float) -> list[tuple[Any, Outcome]]: ...


@dataclasses.dataclass
class Job:
    """What is run on the nodes."""

    check: list[list[str]]  # commands
    settings: list[str]  # make variables of `make part`
    machine: dict[str, Any]  # of this machine

    def part(self, shard: Shard) -> list[str]:
        return ["make", "part", f"SHARD={shard}", *self.settings]


class Plan:
    """Which parts wait, and what failed."""

    def __init__(self, parts: list[Shard]) -> None:
        self.waiting = list(parts)
        self.failed: dict[Shard, list[str]] = {part: [] for part in parts}  # keys of nodes
        self.given_up: dict[Shard, str] = {}  # why
        self._in_a_row: dict[str, set[Shard]] = {}  # node -> parts that failed there since the last success

    def take(self, node: str) -> Optional[Shard]:
        """The next part for a node; parts that failed on it come last. None if no part waits, or the node is bad."""
        if not self.waiting or self.is_bad(node):
            return None
        part = min(self.waiting, key=lambda each: node in self.failed[each])  # the first one, if equal
        self.waiting.remove(part)
        return part

    def is_bad(self, node: str) -> bool:
        return len(self._in_a_row.get(node, ())) >= FAILURES

    def done(self, node: str) -> None:
        self._in_a_row.pop(node, None)

    def fail(self, part: Shard, node: str, why: str) -> None:
        """Let the part wait again, at the front, or give up."""
        self._in_a_row.setdefault(node, set()).add(part)
        self.failed[part].append(node)
        if len(self.failed[part]) < ATTEMPTS:
            self.waiting.insert(0, part)
        else:
            self.given_up[part] = why


@dataclasses.dataclass
class Progress:
    """Prints a line for each part."""

    kept: int  # parts that were finished before
    total: int
    started: Optional[float] = None  # seconds; when the first part was started
    parts: int = 0
    images: int = 0

    def start(self, now: float) -> None:
        self.started = now if self.started is None else self.started

    def line(self, part: Shard, node: str, images: int, now: float) -> str:
        """The line for a part that is done, with the rate since the start and the time left at this rate."""
        self.parts, self.images = self.parts + 1, self.images + images
        seconds = max(now - (self.started or 0.0), 1e-9)
        done = self.kept + self.parts
        left = seconds / self.parts * (self.total - done)
        rate = f"{self.images / seconds:.1f} images/s, {left:.0f} s left"
        return f"part {part} is done on {node}: {done} of {self.total}, {rate}"


class Run:
    """One run over the parts that are needed."""

    def __init__(self, nodes: Nodes, job: Job, store: Callable[[Shard, Outcome], int], progress: Progress) -> None:
        """`store`: writes the files of a part and returns its number of images; raises FormatError."""
        self.nodes, self.job, self.store, self.progress = nodes, job, store, progress
        self.known: dict[str, Node] = {}
        self.ready: set[str] = set()  # keys of checked nodes
        self.refused: dict[str, str] = {}  # name of a node -> why
        self.checks: dict[Any, Node] = {}
        self.parts: dict[Any, tuple[Shard, Node]] = {}

    def compute(self, plan: Plan) -> None:
        """Compute all parts. Raises UserError if no node is left, and WorkFailed if parts failed on several nodes."""
        while plan.waiting or self.parts:
            self.look(plan)
            tasks = [*self.checks, *self.parts]
            if not tasks:
                raise UserError(
                    f"no node can compute: {len(plan.waiting)} parts are left",
                    where=os.environ.get("RAY_ADDRESS") or "the cluster on this machine",
                    found=first_few([f"{name}: {why}" for name, why in self.refused.items()]) or "no nodes",
                    hint=shards.HINT,
                )
            for task, outcome in self.nodes.wait(tasks, POLL):
                if task in self.checks:
                    self.end_check(self.checks.pop(task), outcome)
                else:
                    self.end_part(plan, *self.parts.pop(task), outcome)
        if plan.given_up:
            part, why = next(iter(plan.given_up.items()))
            names = first_few(map(str, plan.given_up))
            raise WorkFailed(f"failed {ATTEMPTS} times: part {names}", where=part, found=why, hint=shards.HINT)

    def look(self, plan: Plan) -> None:
        """Check new nodes, forget those that died, and start parts on those that are free."""
        alive = {node.key: node for node in self.nodes.alive()}
        for key in self.known.keys() - alive.keys():
            self.report(f"{self.known.pop(key).name}: left the cluster")
            self.ready.discard(key)
        for key in alive.keys() - self.known.keys():
            node = self.known[key] = alive[key]
            if node.slots:
                self.checks[self.nodes.check(node, self.job.check)] = node
            else:
                self.refuse(node, "has no CPU or NPU to compute with")
        used = Counter(node.key for _, node in self.parts.values())
        for key in sorted(self.ready):
            node = self.known[key]
            for _ in range(node.slots - used[key]):
                if (part := plan.take(key)) is None:
                    break
                self.progress.start(time.monotonic())
                wanted = f"build/*/eval/*/*/parts/{part.name}.*"
                self.parts[self.nodes.start(node, self.job.part(part), wanted)] = part, node

    def end_check(self, node: Node, outcome: Outcome) -> None:
        if node.key not in self.known:
            return
        if outcome.lost or outcome.code:
            missing = [line for line in outcome.output.splitlines() if ": missing: " in line or ": error: " in line]
            self.refuse(node, outcome.lost or first_few(missing) or last_line(outcome.output))
            return
        try:
            machine.check(node.name, outcome.folder, machine.read(outcome.output), self.job.machine)
        except UserError as error:
            self.refuse(node, str(error).removeprefix(f"{node.name}: "))
            return
        self.nodes.entered(node, outcome)
        self.ready.add(node.key)

    def end_part(self, plan: Plan, part: Shard, node: Node, outcome: Outcome) -> None:
        why = outcome.lost
        if outcome.code:
            why = last_line(outcome.output)
            print(outcome.output, file=sys.stderr)
        if not why:
            try:
                images = self.store(part, outcome)
            except FormatError as error:
                why = str(error)
        if not why:
            plan.done(node.key)
            self.report(self.progress.line(part, node.name, images, time.monotonic()))
            return
        plan.fail(part, node.key, why)
        self.report(f"part {part} failed on {node.name}: {why}")
        if plan.is_bad(node.key):
            self.refuse(node, f"{FAILURES} parts failed, the last one: {why}")

    def refuse(self, node: Node, why: str) -> None:
        self.ready.discard(node.key)
        self.refused[node.name] = why
        self.report(f"{node.name}: not used: {why}")

    def report(self, line: str) -> None:
        print(line, flush=True)


def store(parts: Path, part: Shard, outcome: Outcome) -> int:
    """Write the files of a part, its record last. Returns its number of images. Raises FormatError if they are not
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
    """The bundle for the nodes, and the name of its directory there, which differs if its content does."""
    settings = dict(args.set or [])
    if args.reference:
        settings["ONNX" if settings["REFERENCE"] == "onnx" else "WEIGHTS"] = f"weights/{args.weights.name}"
    nothing = dict.fromkeys(("inputs", "inputs_flip", "annotations", "reference"))
    files, _ = bundle.collect(argparse.Namespace(**{**vars(args), **nothing, "set": settings.items()}))
    files.update(reference_files(args))
    mine = f"{platform.node()} {args.parts.absolute()} {bundle.digest(files)}"  # not shared with another checkout
    name = f"{args.cfg.stem}-{hashlib.sha256(mine.encode()).hexdigest()[: bundle.DIGITS]}"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "bundle.tar")
        bundle.write_tar(path, name, files)
        return path.read_bytes(), name


def job_of(run: shards.Run, part: Shard) -> Job:
    """The commands for the nodes. `part`: one that is needed."""
    args = run.args
    dataset, model, cfg = str(args.dataset.absolute()), f"model/{args.model.name}", f"configs/{args.cfg.name}"
    settings = [f"DATASET={dataset}", f"SHARDS={args.shards}", "DEVICE=0", "PYTHON={python}"]
    check = [["make", "doctor", *settings]]
    if run.config.MODEL.NAME == "onnx" and args.reference:  # make completes the config, since it has an ONNX file
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
                what = f"changed while they were computed: part {first_few(map(str, left))}"
                raise WorkFailed(what, where=args.dataset, hint="run make cluster again")
        write_record(args.parts / "data.json", "data", {"data": whole.state})  # for make


def compute(whole: shards.Run, todo: list[Shard]) -> None:
    """Compute these parts on a cluster, and clean up there."""
    args = whole.args
    job = job_of(whole, todo[0])
    archive, name = pack(args)
    with RayNodes(os.environ.get("RAY_ADDRESS", ""), npu=args.backend in NPU_BACKENDS) as nodes:
        nodes.send(archive, name)
        progress = Progress(args.shards - len(todo), args.shards)
        Run(nodes, job, lambda part, outcome: store(args.parts, part, outcome), progress).compute(Plan(todo))
        for node, why in nodes.clean().items():
            print(f"{node}: cannot remove {name}: {why}", file=sys.stderr)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.cluster", description=__doc__.splitlines()[0])
    shards.add_arguments(parser)
    parser.add_argument("--shards", type=integer(1), required=True, help="number of parts")
    parser.add_argument("--backend", required=True, help="ascend and torch_aie: each part needs an NPU")
    parser.add_argument("--set", type=bundle.setting, action="append", metavar="NAME=value", help="a make variable")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
