"""A fake `atc` on PATH: it applies ATC's rules and writes a .om (`IMOD`, its arguments as a line of JSON, the ONNX
file), which the fake ais_bench can run. That line also has the normalisation of an AIPP file, as `aipp`.

It has its own list of chips, as each release of CANN has, and runs the `python3` on PATH as TBE does, which must not be
one of a virtual environment. Error lines have the process and the time, as since CANN 8.

FAKE_ATC changes what it does: `host` names its result as newer CANN does, `nothing` writes no result, `crash` exits
without ATC's last lines, `waits` continues when there is a file `go_on` beside the model, `operators` has no operators
of the chip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from atc import atc_rules, graph
from atc.atc_rules import AtcError

MODE = os.environ.get("FAKE_ATC", "")
# fmt: off
CHIPS = [
    "310", "310P1", "310P2", "310P3", "310P4", "310P5", "310P7", "310P3Vir01", "310P3Vir02", "310P3Vir04",
    "310P3Vir08", "310B1", "310B2", "310B3", "310B4", "910", "910A", "910B", "910B1", "910B2", "910B2C", "910B3",
    "910B4", "910B4-1", "910ProA", "910ProB", "910PremiumA", "910_9391", "910_9392", "910_9381", "910_9382",
    "910_9372", "910_9362", "910_9363", "950PR_9579", "950PR_9589", "950PR_9599", "950DT_9582",
]
# fmt: on
IN_A_VENV = "import sys; sys.exit(sys.prefix != sys.base_prefix)"


def check_chip(arguments: dict[str, str]) -> None:
    chip = arguments["soc_version"]
    if not chip.startswith("Ascend") or chip[len("Ascend") :] not in CHIPS:
        reason = "The current value is not within the valid range."
        raise AtcError("E10001", f"Value {chip} for parameter --soc_version is invalid. Reason: {reason}")
    if chip.startswith("Ascend950") and "insert_op_conf" in arguments:
        raise AtcError("E10055", f"The operation is not supported. Reason: AIPP on {chip}.")
    python = shutil.which("python3")
    if python and subprocess.run([python, "-c", IN_A_VENV]).returncode:
        raise AtcError("EC0010", "Failed to import Python module [ModuleNotFoundError: No module named 'decorator'.].")
    if MODE == "operators":
        what = f"for [Conv_0, optype [Conv]], SocVersion = {chip}"
        raise AtcError("EZ3003", f"No supported Ops kernel and engine are found {what}.")


def named_files(arguments: dict[str, str]) -> dict[str, str]:
    """The content of the files that flags name; atc refuses a missing one."""
    found = {}
    for name in ("keep_dtype", "modify_mixlist", "op_precision_mode", "customize_dtypes", "fusion_switch_file"):
        if name in arguments:
            if not Path(arguments[name]).is_file():
                text = f"Value {arguments[name]} for parameter --{name} is invalid. Reason: realpath error."
                raise AtcError("E10001", text)
            found[f"{name}_content"] = Path(arguments[name]).read_text()
    return found


def aipp(path: str) -> dict[str, list[float]]:
    """mean, min and var_reci of the three channels."""
    fields = dict(re.findall(r"(\w+) *: *([\w.-]+)", Path(path).read_text()))
    if (fields.pop("aipp_mode"), fields.pop("input_format")) != ("static", "RGB888_U8"):
        raise AtcError("E10052", "AIPP configuration is invalid. Reason: unknown to the fake.")
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
        check_chip(arguments)
        named = named_files(arguments)
    except AtcError as error:
        line = f"{error.code}: [PID: {os.getpid()}] 2025-12-18-10:00:00.123.456 {error.text}"
        print(f"...\n{atc_rules.FAILURE}\n{line}\n        TraceBack (most recent call last):")
        return 255
    while MODE == "waits" and not Path(arguments["model"]).with_name("go_on").exists():
        time.sleep(0.01)
    if "log" in arguments and arguments["log"] == "debug":
        print("[DEBUG] GE(1,atc.bin):one of a million lines")
    if MODE != "nothing":
        result = Path(arguments["output"] + ("_linux_x86_64" if MODE == "host" else "") + ".om")
        content = {**arguments, **({"aipp": conf} if conf else {}), **named}
        head = b"IMOD" + json.dumps(content).encode() + b"\n"
        result.write_bytes(head + Path(arguments["model"]).read_bytes())
        result.chmod(0o600)
    print(f"...\n{atc_rules.SUCCESS}")
    return 0


sys.exit(main())
