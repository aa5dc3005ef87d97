"""make/schedule.py: which node computes which part, failures, rejected nodes, progress."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.io.records import FormatError
from hrnet.shards import Shard
from make import schedule
from make.ray_nodes import Outcome
from tests.make.fake_cluster import DESCRIPTION, Cluster, node


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(1, count + 1)]


def compute(nodes: Cluster, count: int) -> list[Shard]:
    """Compute `count` parts; return them in the order in which they were stored."""
    stored: list[Shard] = []

    def store(part: Shard, outcome: Outcome) -> int:
        stored.append(part)
        return 5

    job = schedule.Job([["make", "doctor"]], ["DATASET=/data"], DESCRIPTION)
    schedule.Scheduler(nodes, job, store, schedule.Progress(0, count)).compute(schedule.Plan(shards(count)))
    return stored


def test_each_part_is_computed_once() -> None:
    nodes = Cluster(node("a"), node("b"), node("c", slots=3))
    assert sorted(compute(nodes, 16), key=str) == sorted(shards(16), key=str)
    assert len(nodes.log) == 16 and nodes.most == {"a": 1, "b": 1, "c": 3}, "one part at a time, or one for each NPU"


def test_a_node_that_joins_late_gets_parts() -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> None:
        nodes.nodes.setdefault("late", node("late"))

    nodes = Cluster(node("a"), event=event)
    assert len(compute(nodes, 6)) == 6
    assert {key for key, _ in nodes.log} == {"a", "late"}


def test_a_part_whose_node_died_is_computed_by_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> Optional[Outcome]:
        if key == "b" and nodes.nodes.pop("b", None):
            return Outcome(lost="NodeDiedError: the node died")
        return None

    nodes = Cluster(node("a"), node("b"), event=event)
    stored = compute(nodes, 5)
    assert sorted(stored, key=str) == shards(5) and len(nodes.log) == 6
    text = capsys.readouterr().out
    assert "host (b): left the cluster" in text and "failed on host (b): NodeDiedError" in text


def test_a_failed_part_goes_to_another_node() -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> Optional[Outcome]:
        return Outcome(code=2, output="make: Error\n") if (key, part.number) == ("a", 1) else None

    nodes = Cluster(node("a"), node("b"), event=event)
    assert len(compute(nodes, 6)) == 6
    assert [key for key, part in nodes.log if part == "1/6"] == ["a", "b"]


def test_a_part_that_always_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> Optional[Outcome]:
        output = "make.shards: started\npreprocess.pose: failed: 1 files rejected (found a.png)\nmake: *** Error 1\n"
        return Outcome(code=2, output=output) if part.number == 2 else None

    nodes = Cluster(node("a"), event=event)
    with pytest.raises(WorkFailed) as caught:
        compute(nodes, 4)
    assert caught.value.where == "part 2/4" and caught.value.found == "1 files rejected (found a.png)"
    assert [part for _, part in nodes.log].count("2/4") == schedule.ATTEMPTS
    assert {part for _, part in nodes.log} == {"1/4", "2/4", "3/4", "4/4"}
    assert "make.shards: started" in capsys.readouterr().err, "the output of make part is shown"


def test_a_node_on_which_all_parts_fail_gets_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> Optional[Outcome]:
        return Outcome(code=2, output="no space\n") if key == "bad" else None

    nodes = Cluster(node("bad"), node("good"), event=event)
    assert len(compute(nodes, 12)) == 12
    assert sum(key == "bad" for key, _ in nodes.log) == schedule.FAILURES
    assert "host (bad): not used: 3 parts failed, the last one: no space" in capsys.readouterr().out


def test_damaged_files_count_as_a_failure() -> None:
    """A part that arrived damaged is computed again."""
    damaged = [True]
    nodes = Cluster(node("a"))

    def store(part: Shard, outcome: Outcome) -> int:
        if damaged:
            damaged.pop()
            raise FormatError("does not match its record", where="1-of-2.predictions.jsonl")
        return 5

    job = schedule.Job([], [], DESCRIPTION)
    schedule.Scheduler(nodes, job, store, schedule.Progress(0, 2)).compute(schedule.Plan(shards(2)))
    assert sorted(part for _, part in nodes.log) == ["1/2", "1/2", "2/2"]


def answer(**changes: Any) -> Outcome:
    return Outcome(output=json.dumps({**DESCRIPTION, **changes}), folder="/tmp/bad")


DIFFERENT = {
    "no disk": (Outcome(lost="[Errno 28] No space left on device: '/tmp/x'"), "No space left"),
    "doctor": (
        Outcome(code=2, output="numpy 1\nmake doctor: error: simplejpeg: not installed\nmake: *** Error\n"),
        "simplejpeg: not installed",
    ),
    "disk space": (
        Outcome(
            code=2,
            output="make doctor: error: build: 0.1 GB free, 7 GB needed; give BUILD=<directory on a larger disk>\n",
        ),
        "7 GB needed; start Ray there with TMPDIR=",
    ),
    "data": (Outcome(code=2, output="make.machine: error: /data: no data set\n"), "used: /data: no data set"),
    "code": (answer(code_sha256="d"), "another version of the code"),
    "version": (answer(numpy="2"), 'pip install "numpy==1"'),
    "no package": (answer(numpy=None), "found none"),
    "no answer": (Outcome(output="bash: make\n", folder="/tmp/bad"), "no description of the machine"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_an_unsuitable_node_gets_no_part(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Cluster(node("bad"), node("good"))
    nodes.machines["bad"], why = DIFFERENT[what]
    assert len(compute(nodes, 4)) == 4
    assert {key for key, _ in nodes.log} == {"good"}
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("host (bad): not used: "))
    assert why in line and "Error" not in line


def test_without_a_suitable_node_the_run_ends() -> None:
    nodes = Cluster(node("bad"), node("empty", slots=0))
    nodes.machines["bad"] = Outcome(lost="[Errno 30] Read-only file system")
    with pytest.raises(UserError) as caught:
        compute(nodes, 4)
    assert "4 parts" in caught.value.what and "host (bad): [Errno 30]" in str(caught.value.found)
    assert "host (empty)" in str(caught.value.found) and nodes.log == []


def test_progress_counts_images_and_time() -> None:
    progress = schedule.Progress(kept=2, total=8)
    progress.start(100.0)
    progress.start(105.0)
    assert progress.line(Shard(3, 8), "a", 50, 110.0) == "part 3/8 is done on a: 3 of 8, 5.0 images/s, 50 s left"
    assert progress.line(Shard(4, 8), "b", 150, 120.0) == "part 4/8 is done on b: 4 of 8, 10.0 images/s, 40 s left"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("make doctor: error: no disk\nmake: *** [Makefile:1: doctor] Error 2\n", "no disk"),
        ("x\ninfer.run: failed: the tool ended\nmake: *** [x] Error 1\n", "the tool ended"),
        ("make/resolve.mk:11: *** DATASET=/no: no such file\nnothing was run.  Stop.\n", "DATASET=/no: no such file"),
        ("a\nKilled\n", "Killed"),
    ],
)
def test_the_reason_is_the_error_of_the_script_that_failed(output: str, expected: str) -> None:
    assert schedule.reason(output) == expected
