"""A fake of make.ray_nodes.RayNodes, without Ray and without processes."""

from __future__ import annotations

import json
from typing import Any, Callable, Optional

from hrnet.shards import Shard
from make.ray_nodes import Node, Outcome

# The description that this machine and each node give, unless a test changes it
DESCRIPTION = {"code_sha256": "c", "numpy": "1"}
Event = Callable[["Cluster", str, Shard], Optional[Outcome]]


def node(key: str, slots: int = 1) -> Node:
    return Node(key, f"host ({key})", slots, {"CPU": float(slots)})


class Cluster:
    """A fake of RayNodes: each call of `wait` ends one task; `event` may change a part's outcome, or the cluster."""

    def __init__(self, *nodes: Node, event: Optional[Event] = None) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.event = event or (lambda *_: None)
        self.machines: dict[str, Outcome] = {}  # outcome of the check, for nodes that fail it
        self.tasks: list[tuple[str, Optional[Shard]]] = []
        self.log: list[tuple[str, str]] = []  # node, part
        self.most: dict[str, int] = {}  # node -> largest number of parts at a time

    def alive(self) -> list[Node]:
        return list(self.nodes.values())

    def check(self, node: Node, commands: list[list[str]]) -> object:
        self.tasks.append((node.key, None))
        return self.tasks[-1]

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
            passed = Outcome(output=f"note\n{json.dumps(DESCRIPTION)}\n", folder=f"/tmp/{key}")
            return [(task, self.machines.get(key, passed))]
        self.log.append((key, str(part)))
        return [(task, self.event(self, key, part) or Outcome(output="done\n"))]
