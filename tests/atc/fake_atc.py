"""A fake `atc` on PATH: it applies ATC's rules and writes a .om (`IMOD`, its arguments as a line of JSON, the ONNX
file), which the fake ais_bench can run. That line also has the normalisation of an AIPP file, as `aipp`.

FAKE_ATC changes what it does: `host` names its result as newer CANN does, `nothing` writes no result, `crash` exits
without ATC's last lines, `waits` continues when there is a file `go_on` beside the model.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from atc import atc_rules, graph

MODE = os.environ.get("FAKE_ATC", "")


def aipp(path: str) -> dict[str, list[float]]:
    """mean, min and var_reci of the three channels."""
    fields = dict(re.findall(r"(\w+) *: *([\w.-]+)", Path(path).read_text()))
    if (fields.pop("aipp_mode"), fields.pop("input_format")) != ("static", "RGB888_U8"):
        raise atc_rules.AtcError("E10052", "AIPP configuration is invalid. Reason: unknown to the fake.")
    names = {"mean": 0.0, "min": 0.0, "var_reci": 1.0}
    return {name: [float(fields.get(f"{name}_chn_{i}", default)) for i in range(3)] for name, default in names.items()}


def main() -> int:
    print(atc_rules.START, flush=True)
    Path("kernel_meta").mkdir()
    for name in ("fusion_result.json", "check_result.json"):
        Path(name).write_text("{}")
    if MODE == "crash":
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr)
        return 134
    try:
        arguments = atc_rules.parse(sys.argv[1:])
        atc_rules.check_arguments(arguments)
        atc_rules.check_model(arguments, graph.describe(graph.read(arguments["model"])))
        conf = aipp(arguments["insert_op_conf"]) if "insert_op_conf" in arguments else None
        if arguments["soc_version"] == "Ascend910B4":
            raise atc_rules.AtcError(
                "EZ3003", "No supported Ops kernel and engine are found for [Conv_0, optype [Conv]]."
            )
    except atc_rules.AtcError as error:
        print(f"...\n{atc_rules.FAILURE}\n{error}\n        TraceBack (most recent call last):")
        return 255
    while MODE == "waits" and not Path(arguments["model"]).with_name("go_on").exists():
        time.sleep(0.01)
    if "log" in arguments and arguments["log"] == "debug":
        print("[DEBUG] GE(1,atc.bin):one of a million lines")
    if MODE != "nothing":
        result = Path(arguments["output"] + ("_linux_x86_64" if MODE == "host" else "") + ".om")
        content = {**arguments, **({"aipp": conf} if conf else {})}
        head = b"IMOD" + json.dumps(content).encode() + b"\n"
        result.write_bytes(head + Path(arguments["model"]).read_bytes())
        result.chmod(0o600)
    print(f"...\n{atc_rules.SUCCESS}")
    return 0


sys.exit(main())
