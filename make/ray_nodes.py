"""The nodes of a Ray cluster, for make.cluster: send them a bundle, check them, run commands in it, fetch files.

Ray Core finds the nodes, starts processes on a given node, transfers bytes in both directions, and reports a process or
a node that died. make/schedule.py decides which part runs where.

The functions that run on a node are sent there with their code, since the node has no copy of this file. They use only
the standard library.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tarfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hrnet.cli import UserError
from hrnet.hints import PIP

CONNECT_TIMEOUT = 10  # seconds, for the head to accept a connection
OUTPUT_LINES = 40  # last lines of a command's output that are kept
LOCK_TRIES = 100  # attempts to get the lock of a part, one every 0.1 s; then make part reports which process has it
CLEAN_TIMEOUT = 60  # seconds, to remove the bundles from all nodes
INSTALL = f"{PIP} install -c constraints.txt ray"


class Node(NamedTuple):
    """A machine of the cluster. `slots`: number of parts at a time."""

    key: str
    name: str  # for messages
    slots: int
    resources: dict[str, float]


class Outcome(NamedTuple):
    """The result of a task. `lost`: why it did not finish; empty if it did."""

    lost: str = ""
    code: int = 0
    output: str = ""
    files: dict[str, bytes] = {}  # noqa: RUF012
    folder: str = ""  # of the bundle on the node


# --- on a node --------------------------------------------------------------------------------------------------------


def unpack(archive: bytes, name: str) -> str:
    """Unpack the bundle to `<TMPDIR>/hrnet_cluster-<user id>/<name>`, if it is not there. Returns the path."""
    import fcntl
    import io
    import shutil

    root = Path(os.environ.get("TMPDIR") or "/tmp", f"hrnet_cluster-{os.getuid()}").absolute()
    root.mkdir(0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise PermissionError(13, "belongs to another user", str(root))
    folder, temporary = root / name, root / f"{name}.tmp"
    with open(root / f"{name}_lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extraction_filter = getattr(tarfile, "tar_filter", None)  # keeps the modes that ais_bench requires
                tar.extractall(temporary)
            (top,) = temporary.iterdir()
            top.rename(folder)
            temporary.rmdir()
    return str(folder)


def execute(folder: str, words: list[str], wanted: str) -> Outcome:
    """Run a command in `folder`; `{python}` in its words is replaced by this interpreter. The command is killed if this
    process ends. Returns its output and the bytes of the files that match `wanted`, and removes these files. First
    waits until the processes of a killed attempt have ended, about LOCK_TRIES / 10 seconds at most."""
    import fcntl
    import time

    options = re.findall(r"^([A-Z_]+) +\?=", Path(folder, "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    inherited = {*options, "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}  # of the make that started Ray
    # Ray sets these to an empty text for a task without devices
    unset = {name for name, value in os.environ.items() if name.endswith("VISIBLE_DEVICES") and not value}
    environment = {name: value for name, value in os.environ.items() if name not in inherited | unset}
    for path in Path(folder).glob(wanted.removesuffix(".*") + "_lock") if wanted else ():
        with open(path) as lock:
            for _ in range(LOCK_TRIES):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
    process = subprocess.Popen(
        [sys.executable, "-m", "make.attached", *(word.replace("{python}", sys.executable) for word in words)],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,  # stays open until the end: see make/attached.py
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    lines = deque((line.decode(errors="replace") for line in process.stdout), maxlen=OUTPUT_LINES)
    code, files = process.wait(), {}
    if wanted and code == 0:
        for path in sorted(Path(folder).glob(wanted)):
            files[path.name] = path.read_bytes()
            path.unlink()
    return Outcome(code=code, output="".join(lines), files=files, folder=folder)


def enter(archive: bytes, name: str, commands: list[list[str]]) -> Outcome:
    """Unpack the bundle and run commands in it, until one fails. Returns the last one's outcome."""
    folder = unpack(archive, name)
    outcome = Outcome()
    for words in commands:
        outcome = execute(folder, words, "")
        if outcome.code:
            break
    return outcome


def leave(folder: str) -> Outcome:
    """Remove the bundle and all that was computed in it."""
    import shutil

    shutil.rmtree(folder)
    Path(f"{folder}_lock").unlink()
    return Outcome()


# --- here -------------------------------------------------------------------------------------------------------------


def import_ray() -> Any:
    """Ray's package. Raises UserError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends nothing to Ray's authors
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed", where=sys.executable, found=str(error), hint=INSTALL) from None
    return ray


def connect(address: str) -> Any:
    """Ray, connected to the cluster at `address`, or to one that is started on this machine. Raises UserError."""
    ray = import_ray()
    where = f"RAY_ADDRESS={address}" if address else "a Ray cluster on this machine"
    if "://" in address:
        hint = "run make cluster on a node of the cluster, with RAY_ADDRESS=auto"
        raise UserError("Ray's client protocol is not supported", where=where, hint=hint)
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for a quarter of an hour
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
        more: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        ray.init(**more, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        hint = "ray start --address=<head>:6379 on this machine too" if address else "see Ray's logs in /tmp/ray"
        raise UserError("cannot connect", where=where, found=last_line(str(error)), hint=hint) from None
    return ray


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


class RayNodes:
    """The nodes of one cluster; a context manager that disconnects from the cluster at its end."""

    def __init__(self, address: str, npu: bool) -> None:
        """`npu`: each part needs an NPU; otherwise each part needs all CPUs of a node."""
        self.ray, self.npu = connect(address), npu
        self.ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self._remote = {each.__name__: self.ray.remote(each) for each in (enter, execute, leave)}
        self._archive: Any = None
        self._checks: dict[Any, str] = {}  # task -> node
        self._folders: dict[str, str] = {}  # node -> the bundle there

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def send(self, archive: bytes, name: str) -> None:
        """Store the bundle in the cluster; nodes unpack it as `name`."""
        self._archive, self._name = self.ray.put(archive), name

    def alive(self) -> list[Node]:
        """The nodes that are up now."""
        nodes = []
        for each in self.ray.nodes():
            if each["Alive"]:
                name = f"{each['NodeManagerHostname']} ({each['NodeID'][:8]})"
                resources: dict[str, float] = each["Resources"]
                slots = int(resources.get("NPU", 0)) if self.npu else int(resources.get("CPU", 0) >= 1)
                nodes.append(Node(each["NodeID"], name, slots, resources))
        return nodes

    def check(self, node: Node, commands: list[list[str]]) -> object:
        """Start to unpack the bundle and to run `commands` on a node. Returns a task for `wait`."""
        task = self._start("enter", node, {"num_cpus": 0}, self._archive, self._name, commands)
        self._checks[task] = node.key
        return task

    def start(self, node: Node, words: list[str], wanted: str) -> object:
        """Start a part on a checked node. Returns a task for `wait`."""
        cpus = node.resources.get("CPU", 0)
        share = min(1, cpus / node.slots)  # so that CPUs do not limit the number of parts
        needs = {"num_cpus": share, "resources": {"NPU": 1}} if self.npu else {"num_cpus": int(cpus)}
        return self._start("execute", node, needs, self._folders[node.key], words, wanted)

    def _start(self, name: str, node: Node, needs: dict[str, Any], *arguments: object) -> object:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_node = NodeAffinitySchedulingStrategy(node.key, soft=False)
        return self._remote[name].options(scheduling_strategy=on_node, max_retries=0, **needs).remote(*arguments)

    def wait(self, tasks: Sequence[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        """[(task, outcome)] of one of the tasks that have ended; [] if none ends within `seconds`."""
        done, _ = self.ray.wait(list(tasks), num_returns=1, timeout=seconds)
        ended = [(task, self._outcome(task)) for task in done]
        for task, outcome in ended:
            if outcome.folder and task in self._checks:
                self._folders[self._checks.pop(task)] = outcome.folder
        return ended

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = Outcome(*self.ray.get(task))
        except self.ray.exceptions.RayTaskError as error:  # an exception of our function, such as OSError
            return Outcome(lost=last_line(str(error.cause)))
        except self.ray.exceptions.RayError as error:  # the process or the node died
            return Outcome(lost=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return outcome

    def clean(self) -> dict[str, str]:
        """Remove the bundles from all nodes that are still up. Returns {name of a node: why it failed}."""
        tasks = {}
        for node in self.alive():
            if folder := self._folders.get(node.key):
                tasks[self._start("leave", node, {"num_cpus": 0}, folder)] = node.name
        done, late = self.ray.wait(list(tasks), num_returns=len(tasks), timeout=CLEAN_TIMEOUT) if tasks else ([], [])
        failed = {tasks[task]: self._outcome(task).lost for task in done}
        return {**{name: why for name, why in failed.items() if why}, **{tasks[task]: "no answer" for task in late}}
