"""Decide which part runs on which node of a cluster: nodes that join and leave, checks, failures and progress.

This module does not use Ray: `Nodes` lists what it needs from a cluster. A node is checked once, before its first part.
A part that failed, or whose process or node died, is computed again, on another node if there is one. A node on which
several parts failed in a row gets no more parts. A part that failed ATTEMPTS times is given up; the other parts are
still computed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Optional, Protocol

from hrnet.cli import UserError, WorkFailed, first_few, plural
from hrnet.given import settle
from hrnet.io.records import FormatError
from hrnet.shards import Shard
from make import machine
from make.part_stages import HINT
from make.ray_nodes import Node, Outcome, last_line

ATTEMPTS = 3  # for each part
FAILURES = 3  # a node on which so many different parts failed in a row gets no more parts
DISK_HINT = "give BUILD=<directory on a larger disk>"  # in an error of make doctor
NODE_DISK_HINT = "start Ray there with TMPDIR=<directory on a larger disk>"
POLL = 1.0  # seconds between two searches for new nodes


class Nodes(Protocol):
    """What Scheduler needs from a cluster: see RayNodes."""

    def alive(self) -> list[Node]: ...
    def check(self, node: Node, commands: list[list[str]]) -> object: ...
    def start(self, node: Node, words: list[str], wanted: str) -> object: ...
    def wait(self, tasks: list[Any], seconds: float) -> list[tuple[Any, Outcome]]: ...


@dataclasses.dataclass
class Job:
    """What is run on the nodes."""

    check: list[list[str]]  # commands
    settings: list[str]  # make variables of `make part`
    machine: dict[str, Any]  # description of this machine, see make/machine.py

    def part(self, shard: Shard) -> list[str]:
        return ["make", "part", f"SHARD={shard}", *self.settings]


class Plan:
    """The parts that wait, and those that failed."""

    def __init__(self, parts: list[Shard]) -> None:
        self.waiting = list(parts)
        self.failed: dict[Shard, list[str]] = {part: [] for part in parts}  # keys of nodes
        self.given_up: dict[Shard, str] = {}  # why
        self._in_a_row: dict[str, set[Shard]] = {}  # node -> parts that failed there since the last success

    def take(self, node: str) -> Optional[Shard]:
        """The next part for a node; parts that failed on it come last. None if no part is left, or if too many parts
        failed on the node."""
        if not self.waiting or self.is_bad(node):
            return None
        part = min(self.waiting, key=lambda each: node in self.failed[each])  # the first of equal ones
        self.waiting.remove(part)
        return part

    def is_bad(self, node: str) -> bool:
        return len(self._in_a_row.get(node, ())) >= FAILURES

    def done(self, node: str) -> None:
        self._in_a_row.pop(node, None)

    def fail(self, part: Shard, node: str, why: str) -> None:
        """Schedule a part again, before all others, or give it up after ATTEMPTS failures."""
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
        """Count a part that is done. Returns the line for it, with the rate since the start and the time left at this
        rate; `now` is in seconds."""
        self.parts, self.images = self.parts + 1, self.images + images
        seconds = max(now - (self.started or 0.0), 1e-9)
        done = self.kept + self.parts
        left = seconds / self.parts * (self.total - done)
        rate = f"{self.images / seconds:.1f} images/s, {left:.0f} s left"
        return f"part {part} is done on {node}: {done} of {self.total}, {rate}"


class Scheduler:
    """Runs the parts of a plan on the nodes."""

    def __init__(self, nodes: Nodes, job: Job, store: Callable[[Shard, Outcome], int], progress: Progress) -> None:
        """`store`: writes the files of a part and returns its number of images; raises FormatError."""
        self.nodes, self.job, self.store, self.progress = nodes, job, store, progress
        self.known: dict[str, Node] = {}
        self.ready: set[str] = set()  # keys of checked nodes
        self.rejected: dict[str, str] = {}  # name of a node -> why
        self.checks: dict[Any, Node] = {}
        self.parts: dict[Any, tuple[Shard, Node]] = {}

    def compute(self, plan: Plan) -> None:
        """Compute all parts. Raises UserError if no node is left, and WorkFailed if a part failed ATTEMPTS times."""
        while plan.waiting or self.parts:
            self.update_nodes(plan)
            tasks = [*self.checks, *self.parts]
            if not tasks:
                raise UserError(
                    f"no node can compute the remaining {plural(len(plan.waiting), 'part')}",
                    where=os.environ.get("RAY_ADDRESS") or "the cluster on this machine",
                    found=first_few([f"{name}: {why}" for name, why in self.rejected.items()]) or "no nodes",
                    hint=HINT,
                )
            for task, outcome in self.nodes.wait(tasks, POLL):
                if task in self.checks:
                    self.end_check(self.checks.pop(task), outcome)
                else:
                    self.end_part(plan, *self.parts.pop(task), outcome)
        if plan.given_up:
            why = next(iter(plan.given_up.values()))
            names = first_few(map(str, plan.given_up))
            raise WorkFailed(f"failed {ATTEMPTS} times", where=f"part {names}", found=why, hint=HINT)

    def update_nodes(self, plan: Plan) -> None:
        """Start checks of new nodes, forget nodes that died, and start parts on free nodes."""
        alive = {node.key: node for node in self.nodes.alive()}
        for key in [key for key in self.known if key not in alive]:
            self.report(f"{self.known.pop(key).name}: left the cluster")
            self.ready.discard(key)
        for key, node in alive.items():
            if key in self.known:
                continue
            self.known[key] = node
            if node.slots:
                self.checks[self.nodes.check(node, self.job.check)] = node
            else:
                self.reject(node, "has no CPU or NPU to compute with")
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
            self.reject(node, outcome.lost or reason(outcome.output))
            return
        try:
            machine.check(node.name, outcome.folder, machine.read(outcome.output), self.job.machine)
        except UserError as error:
            self.reject(node, str(error).removeprefix(f"{node.name}: "))
            return
        self.ready.add(node.key)

    def end_part(self, plan: Plan, part: Shard, node: Node, outcome: Outcome) -> None:
        why = outcome.lost
        if outcome.code:
            why = reason(outcome.output)
            print(outcome.output, file=sys.stderr)
        if not why:
            try:
                images = self.store(part, outcome)
            except FormatError as error:
                why = str(error)
        if not why:
            plan.done(node.key)
            settle(0)  # make remembers the variables of this call, even if a later part fails
            self.report(self.progress.line(part, node.name, images, time.monotonic()))
            return
        plan.fail(part, node.key, why)
        self.report(f"part {part} failed on {node.name}: {why}")
        if plan.is_bad(node.key):
            self.reject(node, f"{FAILURES} parts failed, the last one: {why}")

    def reject(self, node: Node, why: str) -> None:
        self.ready.discard(node.key)
        self.rejected[node.name] = why
        self.report(f"{node.name}: not used: {why}")

    def report(self, line: str) -> None:
        print(line, flush=True)


def reason(output: str) -> str:
    """Why a command failed: the errors of make doctor, of scripts or of make/options.py, or else the last line of the
    output."""
    start = r"(?:make doctor|[a-z_.]+): (?:error|failed):|make/[a-z_]+\.mk:[0-9]+: \*\*\*"
    found = re.findall(rf"^(?:{start}) (.+)$", output, re.MULTILINE)
    return first_few(found).replace(DISK_HINT, NODE_DISK_HINT) or last_line(output)
