"""A stand-in for the real `atc`: put on PATH by the tests, it does what ASCEND.md says of atc and writes a toy .om
(`IMOD`, its arguments as a line of JSON, the ONNX file), which the double of ais_bench can run. What an AIPP file says
of normalising, one without comments, goes into that line as `aipp`.

ATC_DOUBLE says what it does besides: `host` names its result as newer CANN does, `nothing` leaves no result, `crash`
dies without ATC's last words, `waits` goes on when `go_on` lies beside the model.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from atc import atc_rules, graph

HABIT = os.environ.get("ATC_DOUBLE", "")


def aipp(path: str) -> dict[str, list[float]]:
    """mean, min and var_reci of the three channels."""
    told = dict(re.findall(r"(\w+) *: *([\w.-]+)", Path(path).read_text()))
    if (told.pop("aipp_mode"), told.pop("input_format")) != ("static", "RGB888_U8"):
        raise atc_rules.AtcError("E10052", "AIPP configuration is invalid. Reason: unknown to the double.")
    names = {"mean": 0.0, "min": 0.0, "var_reci": 1.0}
    return {name: [float(told.get(f"{name}_chn_{i}", without)) for i in range(3)] for name, without in names.items()}


def main() -> int:
    print(atc_rules.START, flush=True)
    Path("kernel_meta").mkdir()
    for name in ("fusion_result.json", "check_result.json"):
        Path(name).write_text("{}")
    if HABIT == "crash":
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
    while HABIT == "waits" and not Path(arguments["model"]).with_name("go_on").exists():
        time.sleep(0.01)
    if "log" in arguments and arguments["log"] == "debug":
        print("[DEBUG] GE(1,atc.bin):one of a million lines")
    if HABIT != "nothing":
        result = Path(arguments["output"] + ("_linux_x86_64" if HABIT == "host" else "") + ".om")
        told = {**arguments, **({"aipp": conf} if conf else {})}
        head = b"IMOD" + json.dumps(told).encode() + b"\n"
        result.write_bytes(head + Path(arguments["model"]).read_bytes())
        result.chmod(0o600)
    print(f"...\n{atc_rules.SUCCESS}")
    return 0


sys.exit(main())
