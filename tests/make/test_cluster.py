"""make/cluster.py without Ray: which node computes which part, failures, refusals, progress, and what is written."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.io.files import locked
from hrnet.shards import Shard
from make import cluster, machine
from make.ray_nodes import Node, Outcome
from tests.make.part_files import write_inputs, write_part

IMAGES = 10
HERE = {"code_sha256": "c", "numpy": "1"}
Event = Callable[["Cluster", str, Shard], Optional[Outcome]]


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(1, count + 1)]


def node(key: str, slots: int = 1) -> Node:
    return Node(key, f"host ({key})", slots, {"CPU": float(slots)})


class Cluster:
    """A fake of RayNodes: a part takes one call of `wait`; `event` may change its outcome, or the cluster."""

    def __init__(self, *nodes: Node, event: Optional[Event] = None) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.event = event or (lambda *_: None)
        self.machines: dict[str, Outcome] = {}  # of nodes that differ
        self.tasks: list[tuple[str, Optional[Shard]]] = []
        self.log: list[tuple[str, str]] = []  # node, part
        self.most: dict[str, int] = {}  # parts of a node at a time

    def alive(self) -> list[Node]:
        return list(self.nodes.values())

    def check(self, node: Node, commands: list[list[str]]) -> object:
        self.tasks.append((node.key, None))
        return self.tasks[-1]

    def entered(self, node: Node, outcome: Outcome) -> None:
        assert outcome.folder == f"/tmp/{node.key}"

    def start(self, node: Node, words: list[str], wanted: str) -> object:
        number, count = words[2].removeprefix("SHARD=").split("/")
        assert words[:2] == ["make", "part"] and f"/parts/{number}-of-{count}." in wanted
        self.tasks.append((node.key, Shard(int(number), int(count))))
        running = sum(key == node.key for key, part in self.tasks if part)
        self.most[node.key] = max(running, self.most.get(node.key, 0))
        return self.tasks[-1]

    def wait(self, tasks: list[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        assert tasks and set(tasks) == set(self.tasks)
        task = self.tasks.pop(0)
        key, part = task
        if part is None:
            return [(task, self.machines.get(key, Outcome(output=f"note\n{json.dumps(HERE)}\n", folder=f"/tmp/{key}")))]
        self.log.append((key, str(part)))
        return [(task, self.event(self, key, part) or Outcome(output="done\n"))]


def compute(nodes: Cluster, count: int) -> list[Shard]:
    """Returns the parts that were stored, in order."""
    stored: list[Shard] = []

    def store(part: Shard, outcome: Outcome) -> int:
        stored.append(part)
        return 5

    job = cluster.Job([["make", "doctor"]], ["DATASET=/data"], HERE)
    cluster.Run(nodes, job, store, cluster.Progress(0, count)).compute(cluster.Plan(shards(count)))
    return stored


# --- which node computes which part -----------------------------------------------------------------------------------


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
        return Outcome(code=2, output="rejected: a.png\nmake: Error 1\n") if part.number == 2 else None

    nodes = Cluster(node("a"), event=event)
    with pytest.raises(WorkFailed) as caught:
        compute(nodes, 4)
    assert str(caught.value.where) == "2/4" and caught.value.found == "make: Error 1" and caught.value.hint
    assert [part for _, part in nodes.log].count("2/4") == cluster.ATTEMPTS
    assert {part for _, part in nodes.log} == {"1/4", "2/4", "3/4", "4/4"}
    assert "rejected: a.png" in capsys.readouterr().err, "the output of make part is shown"


def test_a_node_on_which_all_parts_fail_gets_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    def event(nodes: Cluster, key: str, part: Shard) -> Optional[Outcome]:
        return Outcome(code=2, output="no space\n") if key == "bad" else None

    nodes = Cluster(node("bad"), node("good"), event=event)
    assert len(compute(nodes, 12)) == 12
    assert sum(key == "bad" for key, _ in nodes.log) == cluster.FAILURES
    assert "host (bad): not used: 3 parts failed, the last one: no space" in capsys.readouterr().out


def test_files_that_do_not_fit_count_as_a_failure() -> None:
    """A part that arrived damaged is computed again."""
    damaged = [True]
    nodes = Cluster(node("a"))

    def store(part: Shard, outcome: Outcome) -> int:
        if damaged:
            damaged.pop()
            raise cluster.FormatError("does not match its record", where="1-of-2.predictions.jsonl")
        return 5

    job = cluster.Job([], [], HERE)
    cluster.Run(nodes, job, store, cluster.Progress(0, 2)).compute(cluster.Plan(shards(2)))
    assert sorted(part for _, part in nodes.log) == ["1/2", "1/2", "2/2"]


def answer(**changes: Any) -> Outcome:
    return Outcome(output=json.dumps({**HERE, **changes}), folder="/tmp/bad")


DIFFERENT = {
    "no disk": (Outcome(lost="[Errno 28] No space left on device: '/tmp/x'"), "No space left"),
    "doctor": (
        Outcome(code=2, output="numpy 1\nmake doctor: missing: simplejpeg: not installed\nmake: *** Error\n"),
        "simplejpeg: not installed",
    ),
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
    progress = cluster.Progress(kept=2, total=8)
    progress.start(100.0)
    progress.start(105.0)
    assert progress.line(Shard(3, 8), "a", 50, 110.0) == "part 3/8 is done on a: 3 of 8, 5.0 images/s, 50 s left"
    assert progress.line(Shard(4, 8), "b", 150, 120.0) == "part 4/8 is done on b: 4 of 8, 10.0 images/s, 40 s left"


# --- make.cluster as a script -----------------------------------------------------------------------------------------


class Computing(Cluster):
    """A fake cluster that writes the files of parts."""

    last: Computing
    archive: bytes
    name: str
    cleaned: int

    def __init__(self, address: str, npu: bool) -> None:
        super().__init__(node("a"), node("b"), event=type(self).part_files)
        self.address, self.npu, self.cleaned = address, npu, 0
        Computing.last = self

    def __enter__(self) -> Computing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, archive: bytes, name: str) -> None:
        self.archive, self.name = archive, name

    def clean(self) -> dict[str, str]:
        self.cleaned += 1
        return {}

    def check(self, node: Node, commands: list[list[str]]) -> object:
        words = commands[-1][3:]
        found = machine.describe(
            machine.parse_args([word.replace("configs/", "").replace("model/", "") for word in words])
        )
        self.machines[node.key] = Outcome(output=json.dumps(found), folder=f"/tmp/{node.key}")
        return super().check(node, commands)

    def part_files(self, key: str, part: Shard) -> Outcome:
        folder = Path("there")
        folder.mkdir(exist_ok=True)
        write_part(folder / f"{part.name}.json", part)
        return Outcome(files={path.name: path.read_bytes() for path in folder.glob(f"{part.name}.*")})


@pytest.fixture
def computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Computing]]:
    monkeypatch.chdir(tmp_path)
    write_inputs(IMAGES)
    monkeypatch.setattr(cluster, "RayNodes", Computing)
    yield Computing


def call(*more: str, backend: str = "onnxruntime") -> int:
    named = ["--cfg", "small.yaml", "--dataset", "set", "--model", "m.onnx", "--parts", "parts", "--backend", backend]
    commands = ["--preprocess", "a", "--infer", "b", "--evaluate", "c"]
    return cluster.main([*named, *commands, "--shards", "4", "--set", f"BACKEND={backend}", *more])


def test_parts_arrive_and_are_kept(computing: type[Computing], capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    parts = Path("parts")
    expected = [f"{number}-of-4.{end}" for number in range(1, 5) for end in ("json", "predictions.jsonl")]
    assert sorted(path.name for path in parts.iterdir() if not path.name.endswith("_lock")) == [*expected, "data.json"]
    assert json.loads((parts / "data.json").read_text())["data"], "for make"
    assert len(computing.last.log) == 4 and computing.last.cleaned == 1
    assert capsys.readouterr().out.count("is done on host (") == 4
    (parts / "2-of-4.json").unlink()
    write_part(parts / "3-of-4.json", Shard(3, 4), code_sha256=64 * "0")
    assert call() == 0
    assert {part for _, part in computing.last.log} == {"2/4", "3/4"}
    assert "2 of 4 parts were finished before and are kept" in capsys.readouterr().out
    last = computing.last
    assert call() == 0
    assert computing.last is last, "nothing to do: no cluster is needed"


def test_two_runs_exclude_each_other(computing: type[Computing], capsys: pytest.CaptureFixture[str]) -> None:
    Path("parts").mkdir()
    with locked(Path("parts/cluster_lock")):
        assert call() == 2
    assert "parts/cluster_lock" in capsys.readouterr().err


def test_parts_need_an_npu_where_the_backend_does(computing: type[Computing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert call() == 0 and (computing.last.npu, computing.last.address) == (False, "head:6379")
    Path("parts/1-of-4.json").unlink()
    assert call(backend="ascend") == 0 and computing.last.npu


def test_images_that_change_meanwhile_are_noticed(
    computing: type[Computing], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = computing.part_files

    def changed(self: Computing, key: str, part: Shard) -> Outcome:
        outcome = write(self, key, part)
        (Path("set/val") / "0.png").touch()
        return outcome

    monkeypatch.setattr(computing, "part_files", changed)
    assert call() == 1
    assert "1/4" in capsys.readouterr().err


def test_the_bundle_has_model_config_and_settings(computing: type[Computing]) -> None:
    assert call("--set", "LIMIT=0") == 0
    first = computing.last
    with tarfile.open(fileobj=io.BytesIO(first.archive)) as tar:
        top = tar.getnames()[0]
        (settings,) = (tar.extractfile(name) for name in tar.getnames() if name.endswith("/bundle.mk"))
        assert settings and b"OM ?= model/m.onnx\n" in settings.read()
        assert {f"{top}/{name}" for name in ("configs/small.yaml", "model/m.onnx", "model/m.onnx.json")} <= set(
            tar.getnames()
        )
    assert top == first.name and top.startswith("small-")
    Path("parts/1-of-4.json").unlink()
    assert call("--set", "LIMIT=0") == 0 and computing.last.name == first.name
    Path("parts/1-of-4.json").unlink()
    assert call("--set", "LIMIT=1") == 0 and computing.last.name != first.name, "another directory on the nodes"


def test_the_reference_takes_its_code_and_weights_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"x")
    Path("net.onnx.data").write_bytes(b"y")
    args = argparse.Namespace(reference="python -m atc.reference --model net.onnx", weights=Path("net.onnx"))
    files = cluster.reference_files(args)
    assert {"atc/reference.py", "atc/classifier.py", "weights/net.onnx", "weights/net.onnx.data"} <= set(files)
    assert not any(name.startswith("train/") for name in files)
    assert cluster.reference_files(argparse.Namespace(reference="", weights=None)) == {}
