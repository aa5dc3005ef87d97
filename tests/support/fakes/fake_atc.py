"""A fake `atc` on PATH, written from ATC's documentation and source (CANN's GE: api/atc, its flags and error table). It
shares no code with this project, so that it is an independent check of the arguments and files that atc is given.

It writes a .om (`IMOD`, the flags as a line of JSON, the ONNX file) that the fake ais_bench can run; `aipp` in that
line is the normalisation of the AIPP file, `FLAG_content` the content of a file that a flag names. As atc does, it
leaves files of its own in the working directory and runs the `python3` on PATH, which must not be one of a virtual
environment. Only --mode=0 and ONNX are imitated.

FAKE_ATC changes what it does: `host` names its result as newer CANN does, `nothing` writes no result, `crash` exits
without ATC's last lines, `waits` continues when there is a file `go_on` beside the model, `operators` fails as if
the chip's operators were not installed, `old` writes errors as CANN did before version 8.
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

from fake_atc_model import check_model, load
from fake_atc_rules import Rejected, check_flags, read_flags

MODE = os.environ.get("FAKE_ATC", "")
FILES = ("keep_dtype", "modify_mixlist", "op_precision_mode", "customize_dtypes", "fusion_switch_file")
IN_A_VENV = "import sys; sys.exit(sys.prefix != sys.base_prefix)"


def check_host(chip: str) -> None:
    """TBE compiles the operators in the `python3` on PATH."""
    python = shutil.which("python3")
    if python and subprocess.run([python, "-c", IN_A_VENV]).returncode:
        raise Rejected("EC0010", "Failed to import Python module [ModuleNotFoundError: No module named 'decorator'.].")
    if MODE == "operators":
        what = f"for [Conv_0, optype [Conv]], SocVersion = {chip}"
        raise Rejected("EZ3003", f"No supported Ops kernel and engine are found {what}.")


def compile_model(words: list[str]) -> bytes:
    flags = read_flags(words)
    shapes, gears = check_flags(flags)
    model = load(flags["model"])
    aipp = check_model(model, flags, shapes, gears)
    check_host(flags["soc_version"])
    while MODE == "waits" and not Path(flags["model"]).with_name("go_on").exists():
        time.sleep(0.01)
    contents = {f"{name}_content": Path(flags[name]).read_text() for name in FILES if name in flags}
    head = json.dumps({**flags, **({"aipp": aipp} if aipp else {}), **contents})
    return b"IMOD" + head.encode() + b"\n" + Path(flags["model"]).read_bytes()


def error_line(error: Rejected) -> str:
    if MODE == "old":
        text = re.sub(r"^Value (.*) for parameter --(\w+) is", r"Value [\1] for parameter [\2] is", error.text)
        return f"{error.code}: {text.replace('Op name', 'Opname')}"
    return f"{error.code}: [PID: {os.getpid()}] 2025-12-18-10:00:00.123.456 {error.text}"


def main() -> int:
    print("ATC start working now, please wait for a moment.", flush=True)
    Path("kernel_meta").mkdir()
    for name in ("fusion_result.json", "check_result.json"):
        Path(name).write_text("{}")
    if MODE == "crash":
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr)
        return 134
    try:
        content = compile_model(sys.argv[1:])
    except Rejected as error:
        print("...\nATC run failed, Please check the detail log, Try 'atc --help' for more information")
        print(f"{error_line(error)}\n        TraceBack (most recent call last):")
        return 255
    flags = read_flags(sys.argv[1:])
    if flags.get("log") == "debug":
        print("[DEBUG] GE(1,atc.bin):one of a million lines")
    if MODE != "nothing":
        result = Path(flags["output"] + ("_linux_x86_64" if MODE == "host" else "") + ".om")
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_bytes(content)
        result.chmod(0o600)
    print("...\nATC run success, welcome to the next use.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
