"""A fake `aoe` on PATH: it checks its flags as aoe does, tunes nothing, and writes a .om like that of the fake atc.
Operators (--job_type=2) are tuned only after subgraphs, whose knowledge it keeps in HOME, as aoe does.

FAKE_AOE changes what it does: `host` names its result as newer CANN does, `nothing` writes no result at --job_type=2,
`no_device` fails as on a machine without an NPU.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx

MODE = os.environ.get("FAKE_AOE", "")
FLAGS = {"framework", "model", "input_format", "input_shape", "output", "job_type"}
KNOWLEDGE = Path.home() / "Ascend/latest/data/aoe/custom/graph"


def failed(reason: str) -> int:
    print(f"[Aoe]{reason}\n[Aoe]Aoe process failed.")
    return 1


def main() -> int:
    given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    if given.keys() != FLAGS or given["framework"] != "5" or given["job_type"] not in ("1", "2"):
        return failed(f"invalid arguments: {' '.join(sys.argv[1:])}")
    if given["output"].endswith((".om", "/")):
        return failed(f"--output={given['output']} is not a name without its ending")
    if MODE == "no_device":
        return failed("E40021: no device was found")
    graph = onnx.load(given["model"]).graph
    inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    if {part.rpartition(":")[0] for part in given["input_shape"].split(";")} != inputs:
        return failed("E10016: Opname specified in --input_shape is not found in the model.")
    if given["job_type"] == "1":
        KNOWLEDGE.mkdir(parents=True, exist_ok=True)
    elif not KNOWLEDGE.is_dir():
        return failed("operators are tuned after subgraphs")
    Path(f"aoe_result_{'sgat' if given['job_type'] == '1' else 'opat'}_20240101.json").write_text("{}")
    if MODE != "nothing" or given["job_type"] == "1":
        result = Path(given["output"] + ("_linux_x86_64" if MODE == "host" else "") + ".om")
        result.write_bytes(b"IMOD" + json.dumps(given).encode() + b"\n" + Path(given["model"]).read_bytes())
    print("[Aoe]Aoe process finished,cost time 1s.", flush=True)
    return 0


sys.exit(main())
