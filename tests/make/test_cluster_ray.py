"""make cluster on a Ray cluster of three nodes on this machine: results, killed workers, nodes and drivers, rejections.

Each node has its own TMPDIR, so its own unpacked bundle, as on another machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from make import ray_nodes
from tests.support import ROOT
from tests.support.checkout import Checkout

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SECONDS = 600  # time limit for a process
PARTS = 8
GIVEN = ["DATASET=data/digits", "LIMIT=32", f"SHARDS={PARTS}", "GATE=50", "REFERENCE=config"]
HIDE_SIMPLEJPEG = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "simplejpeg" else find(name, *more)
"""
RESULTS = "demo_digits/eval/digits-float32-first32/onnxruntime-bs16-fp32"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which all parts were computed without Ray."""
    pytest.importorskip("sklearn.datasets")
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    (checkout.root / "constraints.txt").write_bytes((ROOT / "constraints.txt").read_bytes())
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    done = checkout.make("eval", *GIVEN)
    assert done.returncode == 0, done.stderr
    return checkout


class Cluster:
    """A Ray cluster whose nodes have a TMPDIR each."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self.folder = folder
        self.cluster = RayCluster()
        self.names: dict[str, str] = {}  # name in this test -> name in messages
        self.drivers: list[Driver] = []

    def add(self, name: str, npus: int = 0, **environment: str) -> Any:
        place = self.folder / name
        place.mkdir()
        node = self.cluster.add_node(
            num_cpus=1,
            resources={"NPU": npus} if npus else {},
            env_vars={"TMPDIR": str(place), **environment},
            include_dashboard=False,
            object_store_memory=80 << 20,
        )
        self.names[name] = f"({node.node_id[:8]})"
        return node

    def bundle(self, name: str) -> Path:
        (found,) = (path for path in (self.folder / name).glob("hrnet_cluster-*/*") if path.is_dir())
        return found

    def drive(self, built: Checkout, build: Path) -> Driver:
        self.drivers.append(Driver(built, self.cluster.address, build))
        return self.drivers[-1]

    def stop(self) -> None:
        for driver in self.drivers:
            if driver.process.poll() is None:
                driver.kill()
        self.cluster.shutdown()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.add("one")
            yield cluster
        finally:
            cluster.stop()


class Driver:
    """`make cluster` as a process group, whose output can be waited for."""

    def __init__(self, built: Checkout, address: str, build: Path) -> None:
        self.log = build / "log"
        build.mkdir(exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        words = ["make", "cluster", *GIVEN, "MODEL=demo_digits", f"BUILD={build}", f"PYTHON={sys.executable}"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*words, "ONNX=build/demo_digits/model.onnx"],
                cwd=built.root,
                env={**clean, "RAY_ADDRESS": address},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, *texts: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not all(text in self.text() for text in texts):
            assert time.monotonic() < deadline and self.process.poll() is None, self.text()
            time.sleep(0.05)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> str:
        assert self.process.wait(SECONDS) == 0, self.text()
        return self.text()


def processes_below(folder: Path) -> dict[int, list[bytes]]:
    """{process: its command line} for a working directory below `folder`, such as the stages in a bundle."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def running_parts(folder: Path) -> list[int]:
    """The processes of `make.attached` that run a part."""
    return [pid for pid, words in processes_below(folder).items() if {b"make.attached", b"part"} <= set(words)]


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of 1 MB, less than the bundle. Only root may mount it."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def wait_until(what: Any) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def check_results(built: Checkout, build: Path, cluster: Optional[Cluster] = None) -> None:
    """The bytes of the run without Ray; nothing is left on the nodes."""
    for name in ("predictions.jsonl", "result.json"):
        expected = built.root / "build" / RESULTS / name
        assert (build / RESULTS / name).read_bytes() == expected.read_bytes(), name
    parts = build / RESULTS / "parts"
    assert len(list(parts.glob("*.json"))) == PARTS + 1, "and data.json"
    if cluster:
        assert not list(cluster.folder.glob("*/hrnet_cluster-*/*"))


def test_results_and_a_node_that_joins_late(built: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    driver = cluster.drive(built, tmp_path / "build")
    driver.wait_for("is done on")
    for name in ("two", "three"):
        cluster.add(name)
    text = driver.finish()
    check_results(built, tmp_path / "build", cluster)
    assert text.count(" is done on ") == PARTS and "PASS: demo_digits top1" in text
    assert any(f"{cluster.names[name]}: " in text for name in ("two", "three")), "a late node computed a part"
    again = built.make("-n", "eval", f"BUILD={tmp_path}/build", "GATE=50", "REFERENCE=config").stdout
    assert "-m make.shards" not in again, "make sees the same products as after make eval"


def test_a_killed_worker_and_a_killed_node(built: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add("two")
    cluster.add("three")
    driver = cluster.drive(built, tmp_path / "build")
    process = wait_until(lambda: running_parts(cluster.folder / "three"))[0]
    os.kill(parent_of(process), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{process}").exists())
    driver.wait_for(f" failed on {os.uname().nodename} {cluster.names['three']}")
    wait_until(lambda: running_parts(cluster.folder / "two"))
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    wait_until(lambda: not processes_below(cluster.folder / "two"))
    text = driver.finish()
    check_results(built, tmp_path / "build")
    assert f"{cluster.names['two']}: left the cluster" in text
    assert text.count(" failed on ") == 2 and text.count(" is done on ") == PARTS


def test_a_killed_driver(built: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    for name in ("two", "three"):
        cluster.add(name)
    build = tmp_path / "build"
    driver = cluster.drive(built, build)
    driver.wait_for("2 of 8")
    driver.kill()
    wait_until(lambda: not running_parts(cluster.folder))
    records = list((build / RESULTS / "parts").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in records}
    assert 2 <= len(before) < PARTS
    text = cluster.drive(built, build).finish()
    assert f"{len(before)} of {PARTS} parts were finished before and are kept" in text
    assert text.count(" is done on ") == PARTS - len(before)
    assert {path: path.stat().st_mtime_ns for path in records} == before
    check_results(built, build, cluster)


def test_unsuitable_nodes_are_rejected(built: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("other_code")
    build = tmp_path / "build"
    driver = cluster.drive(built, build)
    driver.wait_for("is done on")
    wait_until(lambda: list(cluster.folder.glob("other_code/*/*/Makefile")))
    driver.kill()
    with open(cluster.bundle("other_code") / "hrnet/images.py", "a") as code:
        code.write("# another version\n")
    stubs, old = tmp_path / "stubs", tmp_path / "old"
    (old / "Pillow-9.0.0.dist-info").mkdir(parents=True)
    (old / "Pillow-9.0.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: Pillow\nVersion: 9.0.0\n")
    stubs.mkdir()
    (stubs / "sitecustomize.py").write_text(HIDE_SIMPLEJPEG)
    cluster.add("no_package", PYTHONPATH=str(stubs))
    cluster.add("old_package", PYTHONPATH=str(old))
    cluster.add("no_disk", TMPDIR="/proc")
    with small_disk(tmp_path / "small") as disk:
        cluster.add("full_disk", TMPDIR=str(disk))
        text = cluster.drive(built, build).finish()
    check_results(built, build, cluster)
    for name, why in {
        "full_disk": "No space left on device",
        "other_code": "another version of the code",
        "no_package": "simplejpeg: not installed",
        "old_package": 'pip install "Pillow==',
        "no_disk": "/proc/hrnet_cluster",
    }.items():
        (line,) = (each for each in text.splitlines() if f"{cluster.names[name]}: not used: " in each)
        assert why in line
        assert f" is done on {os.uname().nodename} {cluster.names[name]}" not in text


def test_each_part_gets_an_npu_of_its_own(cluster: Cluster) -> None:
    """Two parts at a time on a node with two NPUs, each of which sees one."""
    cluster.add("npus", npus=2)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("Makefile", "hrnet", "make"):
            tar.add(ROOT / name, f"top/{name}", filter=lambda info: None if info.name.endswith(".so") else info)
    script = "import os, pathlib, time; npu = os.environ['ASCEND_RT_VISIBLE_DEVICES']; pathlib.Path(npu).touch(); "
    script += "[time.sleep(0.1) for _ in range(600) if not (os.path.exists('0') and os.path.exists('1'))]; print(npu)"
    with ray_nodes.RayNodes(cluster.cluster.address, npu=True) as nodes:
        (node,) = (each for each in nodes.alive() if each.slots)
        assert node.slots == 2 and cluster.names["npus"] in node.name
        nodes.send(archive.getvalue(), "npu")
        check = nodes.check(node, [["{python}", "-c", "print(1)"]])
        assert wait_until(lambda: nodes.wait([check], 1))[0][1].output == "1\n"
        tasks = [nodes.start(node, ["{python}", "-c", script], "") for _ in range(2)]
        found = []
        while tasks:
            for task, outcome in nodes.wait(tasks, 1):
                tasks.remove(task)
                found.append(outcome)
        assert nodes.clean() == {}
    assert not list(cluster.folder.glob("npus/hrnet_cluster-*/*"))
    assert sorted(outcome.output for outcome in found) == ["0\n", "1\n"]
