"""make/cluster.py with a fake cluster: the bundle that is sent, and the files that are written and kept."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrnet.io.files import locked
from hrnet.shards import Shard
from make import cluster, machine
from make.ray_nodes import Node, Outcome
from tests.make.fake_cluster import Cluster, node
from tests.support.part_files import write_inputs, write_part

IMAGES = 10


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


def test_images_that_change_during_the_run_are_reported(
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


def test_code_and_weights_of_the_reference_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"x")
    Path("net.onnx.data").write_bytes(b"y")
    args = argparse.Namespace(reference="python -m atc.reference --model net.onnx", weights=Path("net.onnx"))
    files = cluster.reference_files(args)
    assert {"atc/reference.py", "atc/classifier.py", "weights/net.onnx", "weights/net.onnx.data"} <= set(files)
    assert not any(name.startswith("train/") for name in files)
    assert cluster.reference_files(argparse.Namespace(reference="", weights=None)) == {}
