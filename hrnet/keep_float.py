"""The list of operators that stay in float (KEEP_FLOAT), and where they are in an optimised graph.

A line is the name of a node of the ONNX file, or `OpType::<type>` for all nodes of a type: the format of atc's
--keep_dtype. Graphs are onnx's GraphProto; this module does not import onnx.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hrnet.cli import UserError, first_few
from hrnet.io.files import AnyPath

# Keys in the metadata of a compiled model
PRECISION = "precision"  # what the model computes in: fp16, fp32 or int8, or the precision mode in ATC_FLAGS
KEPT = "keep_float"  # how many operators the list of KEEP_FLOAT keeps
BY_TYPE = "OpType::"
ASCEND_TYPES = {"Conv2D": "Conv", "MatMulV2": "MatMul"}  # names of CANN's operators that differ from ONNX's


def read_lines(path: AnyPath) -> list[str]:
    """The lines of a list, without empty ones. Raises UserError for a missing file, and for one that is not text."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError("no such list of operators", where=path, hint="KEEP_FLOAT=auto makes one") from None
    except UnicodeDecodeError:
        raise UserError("not a text file", where=path, expected="a name of an ONNX node in each line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_list(path: AnyPath, graph: Any) -> list[str]:
    """The names of the listed nodes, in the graph's order. Raises UserError for a name or type that the graph does not
    contain, and for a type whose nodes have no names."""
    types = {node.name: node.op_type for node in graph.node if node.name}
    kept, unknown = set[str](), []
    for line in read_lines(path):
        kind = line.removeprefix(BY_TYPE)
        wanted = {kind, ASCEND_TYPES.get(kind, kind)} if line.startswith(BY_TYPE) else set()
        found = {name for name, each in types.items() if each in wanted} if wanted else {line} & types.keys()
        kept |= found
        unknown += [] if found else [line]
    if unknown:
        expected = f"names of nodes, such as {first_few(types, 1)}" if types else "nodes with names"
        raise UserError("not in the ONNX file", where=path, expected=expected, found=first_few(unknown))
    return [name for name in types if name in kept]


def locate(names: Iterable[str], source: Any, optimised: Any) -> set[str]:
    """The names of the nodes of the `optimised` graph that compute the nodes `names` of `source`: with the same name,
    or with the same output (a batch norm folded into a convolution), or else with the next output that still exists."""
    by_name = {node.name: node for node in optimised.node if node.name}
    made = {output: node for node in optimised.node for output in node.output}
    nodes = {node.name: node for node in source.node if node.name}
    readers: dict[str, list[Any]] = {}
    for node in source.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return {found.name for name in names for found in _followed(nodes[name], by_name, made, readers)}


def _followed(node: Any, by_name: dict[str, Any], made: dict[str, Any], readers: dict[str, list[Any]]) -> Iterator[Any]:
    waiting, seen = [node], set()
    while waiting:
        each = waiting.pop()
        found = by_name.get(each.name) or next((made[name] for name in each.output if name in made), None)
        if found is not None:
            yield found
            continue
        after = [reader for name in each.output for reader in readers.get(name, ()) if id(reader) not in seen]
        seen |= {id(reader) for reader in after}
        waiting += after
