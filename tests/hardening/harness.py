"""Run one stage as a process, kill it at a chosen moment, run it again, and check the result.

A stage runs in its own directory with hard links to its inputs, and all its paths are relative, so that equal runs
write equal bytes. Not compared:
- the values in OF_THIS_RUN, such as `seconds`, `kept`, and `command` (that of a rerun names the directory of the
  remaining inputs);
- hashes, in other records and in stamps, that are computed from a record with such values;
- ais_bench's summary, and images/s in tables.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.processes import AT_WORK, SECONDS, group_is_gone

RECORDS = (
    "run",
    "part",
    "metrics",
    "stamp",
    "settings",
    "data",
    "keep_float",
    "precision",
)  # kinds that depend on times
NESTED = ("keep_float", "precision")  # kinds that have keys of OF_THIS_RUN at any depth
OF_THIS_RUN = (
    *("seconds", "images_per_second", "device_images_per_second", "decode_milliseconds_an_image"),
    *("device", "kept", "inferred", "command", "products"),
)
OF_A_RECORD = re.compile(
    r"run_.*|run|[0-9]+-of-[0-9]+(\.json)?"
)  # keys whose value is the hash of the record of a run or of a part
# Not compared: make.shards keeps a finished part even if its stamp is missing, and does not write the stamp again
PART_STAMP = re.compile(r"\.[0-9]+-of-[0-9]+\.json\.stamp")
SPEED = re.compile(rb"\b[0-9]+\.[0-9](?= \|)")  # images/s in a table: the only figures with one digit after the point
SESSION = ".ses"  # a file that onnxruntime leaves in TMPDIR


@dataclass(frozen=True)
class Stage:
    """A call of one stage, and its products below its directory."""

    module: str
    arguments: str  # as in a shell
    products: tuple[str, ...]  # files, or directories with all their files
    last: str  # the record written last (before its stamp): once it exists, all files are complete
    kept: str = ""  # glob pattern of the files that a rerun keeps if they are finished
    files: int = 1  # number of kept files for each input or part; `identities` explains which names belong together

    def start(self, folder: Path, **options: object) -> subprocess.Popen[str]:
        """Start the stage in its own process group."""
        (folder / "tmp").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder / "tmp"),
            "no_proxy": "*",
        }
        return subprocess.Popen(
            [sys.executable, "-m", self.module, *shlex.split(self.arguments)],
            cwd=folder,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def run(self, folder: Path, **options: object) -> tuple[int, str]:
        """Run it to its end; return exit code and output."""
        started = self.start(folder, **options)
        output, _ = started.communicate(timeout=SECONDS)
        return started.returncode, output

    def finish(self, folder: Path) -> str:
        """Run it to its end, which must be exit code 0; return its output."""
        code, output = self.run(folder)
        assert code == 0, output
        return output


@dataclass(frozen=True)
class Point:
    """A moment in a run: `seconds` after `entries` files exist in its products."""

    entries: int
    seconds: float
    whole_group: bool  # kill all processes of the run, or only its first one
    redone: bool  # start with the products of a finished run that is not up to date


def points(seed: int, count: int, entries: int, seconds: float) -> list[Point]:
    """Random moments for `seed`: one half at most `seconds` after the start, where `seconds` is the duration of an
    undisturbed run; the other half when a random number of files exists, at most `entries`."""
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
    """Hard links in `target` to the files of `source`, unless they exist; directories keep their modes."""
    for root, _, names in os.walk(source):
        folder = target / os.path.relpath(root, source)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(os.stat(root).st_mode)
        for name in names:
            if not (folder / name).exists():
                os.link(os.path.join(root, name), folder / name)


def below(folder: Path, products: tuple[str, ...]) -> Iterator[Path]:
    """Every file of the products, also hidden and partial ones."""
    for product in products:
        path = folder / product
        if path.is_dir():
            yield from (Path(root, name) for root, _, names in os.walk(path) for name in names)
        elif path.exists():
            yield path


def contents(folder: Path, stage: Stage) -> dict[str, bytes]:
    """The bytes of each product without times."""
    found = {}
    for path in below(folder, stage.products):
        if PART_STAMP.fullmatch(path.name):
            continue
        data = path.read_bytes()
        if path.name.endswith("_summary.json"):
            data = b""
        elif path.suffix in (".json", ".stamp"):
            data = without_times(data)
        elif path.suffix == ".md" and b"images/s" in data:
            data = SPEED.sub(b"", data)
        found[str(path.relative_to(folder))] = data
    return found


def untimed(value: Any) -> Any:
    """A JSON value without the keys OF_THIS_RUN at any depth."""
    if isinstance(value, dict):
        return {key: untimed(each) for key, each in value.items() if key not in OF_THIS_RUN}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def without_times(data: bytes) -> bytes:
    """A record without what differs between equal runs; other JSON as it is."""
    try:
        record = json.loads(data)
    except ValueError:
        return data
    if not isinstance(record, dict) or record.get("kind") not in RECORDS:
        return data
    if record["kind"] in NESTED:
        record = untimed(record)
    record = {key: value for key, value in record.items() if key not in OF_THIS_RUN}
    if isinstance(record.get("settings"), dict):  # files written again have other times
        record["settings"] = {key: each for key, each in record["settings"].items() if not key.endswith("_state")}
    if isinstance(record.get("data"), dict):  # a directory of links has its own time
        record["data"] = {path: state and state[1] for path, state in record["data"].items()}
    for name in ("files", "made_from", "evaluated", "parts"):
        hashes = record.get(name)
        if isinstance(hashes, dict):
            record[name] = {key: value for key, value in hashes.items() if not OF_A_RECORD.fullmatch(key)}
            if "parts" in record[name]:
                record[name]["parts"] = sorted(record[name]["parts"])
    return json.dumps(record).encode()


def identities(folder: Path, stage: Stage) -> dict[str, list[tuple[int, int]]]:
    """Inodes and times of the finished files that a rerun keeps. Files of one input or part have equal names up to the
    first dot, apart from a number such as `_0` at the end."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(folder.glob(stage.kept)) if stage.kept else []:
        name = re.sub(r"_[0-9]$", "", path.name.split(".")[0])
        found.setdefault(name, []).append((path.stat().st_ino, path.stat().st_mtime_ns))
    return {name: files for name, files in found.items() if len(files) == stage.files}


def kill_at(stage: Stage, folder: Path, point: Point) -> subprocess.Popen[str]:
    """Start the stage and kill it at `point`, unless it ended before."""
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
    """Run the stage again at once. The only error allowed is that a process of the killed run is still running; then
    wait until it has ended, and run the stage again."""
    code, output = stage.run(folder)
    assert group_is_gone(group)
    # If make.shards fails, it terminates its other stages; the tool of such a stage has a lock for a moment longer
    for _ in range(10):
        if not (code == 2 and AT_WORK in output):
            break
        time.sleep(0.2)
        code, output = stage.run(folder)
    assert code == 0, output


def check_killed(stage: Stage, inputs: Path, finished: Path, folder: Path, point: Point) -> bool:
    """Kill the stage at `point` and run it again: bytes equal to the `finished` run, nothing done twice, no temporary
    file and no process left. Returns whether it was killed before its end."""
    link_tree(inputs, folder)
    expected = contents(finished, stage)
    if point.redone:
        link_tree(finished, folder)
        for path in folder.rglob("*.stamp"):
            path.unlink()
    killed = kill_at(stage, folder, point)
    before = identities(folder, stage)
    if (
        folder / stage.last
    ).exists():  # then all files are complete, and a rerun without the stamp may compute all again
        found = contents(folder, stage)
        whole = {name: data for name, data in expected.items() if not name.endswith(".stamp")}
        assert {name: found[name] for name in whole} == whole, point
        before = {}
    rerun(stage, folder, killed.pid)
    assert contents(folder, stage) == expected, point
    after = identities(folder, stage)
    again = {name for name in before if name in after and after[name] != before[name]}
    # If only the record was missing, infer does one input again, since the tool writes no summary without an input.
    # The first of two passes also does one input again if the second one was killed, since one record is written for
    # both at the end. If only the parent was killed, its tool may have written the last outputs after `before` was
    # computed.
    may_repeat_one = len(before) == len(after) or "--output_flip" in stage.arguments or not point.whole_group
    one_more = stage.module == "infer.run" and may_repeat_one
    assert len(again) <= one_more, (point, again)
    left = {path.name for path in (folder / "tmp").iterdir()} - {SESSION}
    assert not left, (point, left)
    assert killed.stdout is not None
    killed.stdout.close()
    return killed.returncode == -signal.SIGKILL
