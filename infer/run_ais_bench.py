"""The command of ais_bench or its emulator: build it, run it, and read the summaries that it wrote.

With several devices ais_bench gives each device a part of the inputs (`--divide_input 1`) and a directory below the
output directory, `device<id>_<i>`, with a summary beside it. `OutputDir.gather` moves all outputs into one directory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.cli import UserError, WorkFailed
from hrnet.io.records import FormatError
from hrnet.io.summary import outputs_by_stem, read_summary
from infer import ais_bench_probe, runtimes
from infer.ais_bench_probe import KINDS, OFFICIAL
from infer.emulator import path_checks
from infer.output_dir import OutputDir

BACKENDS = ("ascend", *runtimes.RUNTIMES)
DEVICES = re.compile(r"[0-9]+(,[0-9]+)*")
MODULE = ["-m", "ais_bench"]
PROBE = Path(ais_bench_probe.__file__)
BAD_ARGUMENT = 2  # exit code of both tools
HINT = "set AIS_PYTHON to the python that has ais_bench"


class Tool(NamedTuple):
    """ais_bench, or its emulator with one runtime."""

    start: list[str]  # the first words of its command
    devices: list[str]
    modules: tuple[str, ...]  # the code of this repository that it runs; empty for ais_bench

    @property
    def settings(self) -> list[str]:
        """What of `start` changes the outputs: the interpreter does for ais_bench."""
        return self.start[1:] if self.modules else self.start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `find_tool`."""
    parser.add_argument("--device", dest="devices", type=device_list, default="0", help="one id, or several: 0,1")
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime")
    parser.add_argument("--ais_python", default="python3", help="the interpreter that has ais_bench")


def device_list(text: str) -> list[str]:
    """An argparse type: `0`, or `0,1`."""
    if not DEVICES.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected device ids separated by commas, such as 0,1, found {text!r}")
    return text.split(",")


def find_tool(backend: str, ais_python: str, devices: list[str]) -> Tool:
    """The tool for a backend. Raises UserError if it is not installed, or another one of its name is."""
    if backend != "ascend":
        runtimes.check_device(backend, ",".join(devices))
        start = [sys.executable, "-m", "infer.emulator", "--runtime", backend]
        return Tool(start, devices, ("infer.emulator.main", f"infer.runtimes.{backend}_runtime"))
    check_ais_bench(ais_python)
    return Tool([ais_python, *MODULE], devices, ())


def check_ais_bench(ais_python: str) -> None:
    """Raise UserError unless the interpreter has an ais_bench that this project can call. Only starts it."""
    command_line = [ais_python, "-c", PROBE.read_text(encoding="utf-8")]
    try:
        done = subprocess.run(command_line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
    except OSError:
        raise UserError("no such interpreter", where=ais_python, hint=HINT) from None
    except ValueError:
        exit_code = f"exit {done.returncode}"
        raise UserError("not a working Python interpreter", where=ais_python, found=exit_code, hint=HINT) from None
    if found["kind"] in KINDS:
        place = f"{found['where']} {found['version']}".strip() or None
        raise UserError(KINDS[found["kind"]], where=ais_python, expected=OFFICIAL, found=place, hint=HINT)
    if found["crashes"] and not found["pkg_resources"]:
        what, hint = "this ais_bench needs pkg_resources", f"{ais_python} -m pip install 'setuptools<81'"
        raise UserError(what, where=ais_python, hint=hint)


def check_paths(model: Path, inputs: Optional[Path], output: OutputDir) -> None:
    """Check the absolute path and the owner of all that ais_bench is given, before it does; its own line names neither
    the character nor a remedy. Raises UserError."""
    for path in (model, output.folder.parent, output.folder, *([inputs] if inputs else [])):
        path_checks.check_for_ais_bench(path)
    for entry in os.scandir(inputs) if inputs and inputs.is_dir() else ():
        path_checks.check_owner(entry.path)


def build_command(
    start: list[str],
    model: Path,
    inputs: Optional[Path],
    output: OutputDir,
    batch: int,
    devices: list[str],
    loop: int = 1,
    gears: bool = False,
    dims: Optional[str] = None,
) -> list[str]:
    """The command of the model zoo's README; several devices share the inputs. `gears`: each input sets the shape;
    `dims`: one shape for all. Without `inputs` each device computes one batch of zeros `loop` times."""
    if start[1:] == MODULE:
        check_paths(model, inputs, output)
    source = {"--pure_data_type": "zero", "--loop": loop} if inputs is None else {"--input": inputs}
    flags = {
        "--model": model,
        **source,
        "--output": output.folder.parent,
        "--output_dirname": output.folder.name,
        "--outfmt": output.outfmt,
        "--batchsize": batch,
        "--device": ",".join(devices),
    }
    if gears:
        flags["--auto_set_dymdims_mode"] = 1
    if dims:
        flags["--dymDims"] = dims
    if len(devices) > 1 and inputs is not None:
        flags["--divide_input"] = 1  # without it each device infers everything
    return start + [str(part) for flag in flags.items() for part in flag]


def execute(command_line: list[str], locks: Sequence[int], hint: str) -> float:
    """Run the tool, which prints to our screen and inherits `locks`; return its seconds. Raises WorkFailed if it fails,
    UserError if it rejects its arguments."""
    print(shlex.join(command_line), flush=True)
    begun = time.perf_counter()
    code = subprocess.run(command_line, pass_fds=locks).returncode
    seconds = time.perf_counter() - begun
    name = " ".join(command_line[1:3])
    if code == BAD_ARGUMENT:
        raise UserError(f"{name} rejected its arguments, see above", found="exit 2")
    if code:
        raise WorkFailed(f"{name} failed, see above", found=f"exit {code}", hint=hint)
    return seconds


@dataclass(frozen=True)
class ToolResult:
    """The content of the tool's summaries, all devices together."""

    tool: str
    files: dict[str, list[str]]  # stem -> names of its outputs
    host: dict[str, float]  # read, write, total (s); only from the emulator
    infer: float  # s in which the slowest device computed
    device: dict[str, Any]  # one device: its NPU_compute_time and throughput; several: theirs by name, and the sum


def summary_paths(output: OutputDir, devices: list[str]) -> list[Path]:
    """Gather outputs and summaries as those of one run; return the path of each device's summary."""
    if len(devices) == 1:
        return [output.beside("summary.json")]
    output.gather()
    return [output.beside(f"device{device}_{i}_summary.json") for i, device in enumerate(devices)]


def collect(output: OutputDir, devices: list[str]) -> ToolResult:
    """Read the tool's summaries and gather its outputs in one directory. Raises FormatError if a summary is missing or
    two devices inferred the same input."""
    paths = summary_paths(output, devices)
    summaries = [read_summary(path) for path in paths]
    files: dict[str, list[str]] = {}
    for path, summary in zip(paths, summaries):
        found = outputs_by_stem(summary, path)
        if twice := sorted(files.keys() & found.keys()):
            raise FormatError(f"{twice[0]} was inferred by two devices", where=path)
        files.update(found)
    figures = [{key: summary[key] for key in ("NPU_compute_time", "throughput")} for summary in summaries]
    if len(devices) == 1:
        device = figures[0]
    else:
        names = [f"device{device}_{i}" for i, device in enumerate(devices)]
        device = {"throughput": sum(each["throughput"] for each in figures), **dict(zip(names, figures))}
    times = [each["NPU_compute_time"] for each in figures]
    return ToolResult(
        tool=summaries[0].get("runtime", "ais_bench"),
        files=files,
        host=summaries[0].get("host_seconds", {}),
        infer=max(time["mean"] * time["count"] / 1000 for time in times),
        device=device,
    )
