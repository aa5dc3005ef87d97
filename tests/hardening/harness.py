"""One stage run as a process of its own, killed at a chosen moment, and run again: what must hold afterwards.

A stage stands in a folder of its own with hard links to its inputs, and names all paths relative to it, so that equal
runs leave equal bytes. Left out of the comparison is what tells of times: `seconds`, `images_per_second`, `device` of a
record of infer or decode, with its `kept` or `inferred` and `command` (the rerun's input is the folder of what was
left), and ais_bench's summary.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ("_run.json", ".decode.json")  # that tell of times
OF_THIS_RUN = ("seconds", "images_per_second", "device", "kept", "inferred", "command")
AT_WORK = "another run, or the tool of a killed one, is still at work"
SESSION = ".ses"  # which onnxruntime itself leaves in TMPDIR
SECONDS = 120  # after which a process of a test is taken to hang


@dataclass(frozen=True)
class Stage:
    """A call of one stage, and what it leaves below the folder that it stands in."""

    module: str
    arguments: tuple[str, ...]
    products: tuple[str, ...]  # files, or folders with all they hold
    last: str  # the product that comes last: once it is there, it and all others are whole
    kept: str = ""  # the pattern of what a rerun leaves as it is, where it was finished
    files: int = 1  # of one finished input, output or chunk, alike up to the first dot or the output's number

    def start(self, folder: Path, **options: object) -> subprocess.Popen[str]:
        """The stage in a process group of its own."""
        (folder / "tmp").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder / "tmp"),
            "no_proxy": "*",
        }
        return subprocess.Popen(
            [sys.executable, "-m", self.module, *self.arguments],
            cwd=folder,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def run(self, folder: Path, **options: object) -> tuple[int, str]:
        """Run it to its end: exit code and what it said."""
        started = self.start(folder, **options)
        told, _ = started.communicate(timeout=SECONDS)
        return started.returncode, told


@dataclass(frozen=True)
class Point:
    """A moment in a run: once `entries` lie in its products, `seconds` later."""

    entries: int
    seconds: float
    whole_group: bool  # kill all processes of the run, or its first one alone
    redone: bool  # the products of a finished run are there before it starts


def points(seed: int, count: int, entries: int, seconds: float) -> list[Point]:
    """Seeded moments: one half by the time of an undisturbed run, the other by the number of files that are there."""
    source = random.Random(seed)
    found = []
    for number in range(count):
        by_time, redone = number % 2 == 0, number % 8 == 0
        found.append(
            Point(
                entries=0 if by_time else source.randint(1, entries),
                seconds=source.uniform(0, seconds if by_time else 0.05),
                whole_group=source.random() < 0.5,
                redone=redone,
            )
        )
    return found


def link_tree(source: Path, target: Path) -> None:
    """The files of `source` below `target`, as hard links with their times, unless one is there; folders keep modes."""
    for root, _, names in os.walk(source):
        folder = target / os.path.relpath(root, source)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(os.stat(root).st_mode)
        for name in names:
            if not (folder / name).exists():
                os.link(os.path.join(root, name), folder / name)


def below(folder: Path, products: tuple[str, ...]) -> Iterator[Path]:
    """Every file of the products, hidden and half-written ones too."""
    for product in products:
        path = folder / product
        if path.is_dir():
            yield from (Path(root, name) for root, _, names in os.walk(path) for name in names)
        elif path.exists():
            yield path


def contents(folder: Path, stage: Stage) -> dict[str, bytes]:
    """The bytes of each product without what tells of times."""
    found = {}
    for path in below(folder, stage.products):
        data = path.read_bytes()
        if path.name.endswith("_summary.json"):
            data = b""
        elif path.name.endswith(RECORDS):
            record = {key: value for key, value in json.loads(data).items() if key not in OF_THIS_RUN}
            data = json.dumps(record).encode()
        found[str(path.relative_to(folder))] = data
    return found


def identities(folder: Path, stage: Stage) -> dict[str, list[tuple[int, int]]]:
    """Inodes and times of what is finished and a rerun leaves as it is; the records it writes anew."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(folder.glob(stage.kept)) if stage.kept else []:
        name = re.sub(r"_[0-9]$", "", path.name.split(".")[0])
        found.setdefault(name, []).append((path.stat().st_ino, path.stat().st_mtime_ns))
    return {name: files for name, files in found.items() if len(files) == stage.files}


def group_is_gone(group: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def kill_at(stage: Stage, folder: Path, point: Point) -> subprocess.Popen[str]:
    """Start the stage and kill it at `point`, unless it was over before."""
    started = stage.start(folder)
    deadline = time.monotonic() + SECONDS
    while sum(1 for _ in below(folder, stage.products)) < point.entries and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(point.seconds)
    if started.poll() is None:
        (os.killpg if point.whole_group else os.kill)(started.pid, signal.SIGKILL)
        started.wait(SECONDS)
    return started


def rerun(stage: Stage, folder: Path, group: int) -> None:
    """Run the stage again at once; while a process of the killed run is left, it must say so."""
    code, told = stage.run(folder)
    assert group_is_gone(group)
    if code == 2 and AT_WORK in told:
        code, told = stage.run(folder)
    assert code == 0, told


def check_killed(stage: Stage, inputs: Path, finished: Path, folder: Path, point: Point) -> bool:
    """Kill the stage at `point` and run it again: equal bytes to the `finished` run, nothing done twice, nothing left
    over, no process either. Returns whether it was killed before its end."""
    link_tree(inputs, folder)
    expected = contents(finished, stage)
    if point.redone:
        link_tree(finished, folder)
    killed = kill_at(stage, folder, point)
    there = identities(folder, stage)
    if (folder / stage.last).exists():  # it speaks for the others, and a whole run called again may do all anew
        found = {name: data for name, data in contents(folder, stage).items() if name in expected}
        assert found == expected, point
        there = {}
    rerun(stage, folder, killed.pid)
    assert contents(folder, stage) == expected, point
    after = identities(folder, stage)
    again = {name for name in there if name in after and after[name] != there[name]}
    # Where all was done but for the record, infer does one input again: its tool must have something to tell of.
    one_more = stage.module == "infer.run" and len(there) == len(after)
    assert len(again) <= one_more, (point, again)
    assert {path.name for path in (folder / "tmp").iterdir()} <= {SESSION}, point
    assert killed.stdout is not None
    killed.stdout.close()
    return killed.returncode == -signal.SIGKILL
