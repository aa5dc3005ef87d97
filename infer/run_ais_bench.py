"""The command of ais_bench or its emulator: build it, run it, and read the summaries that it wrote.

With several devices ais_bench gives each device a part of the inputs (`--divide_input 1`) and a directory below the
output directory, `device<id>_<i>`, with a summary beside it. `OutputDir.gather` moves all outputs into one directory.
"""

from __future__ import annotations

import argparse
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
from infer import runtimes
from infer.output_dir import OutputDir

BACKENDS = ("ascend", *runtimes.RUNTIMES)
DEVICES = re.compile(r"[0-9]+(,[0-9]+)*")
NO_SUCH_MODULE = 42  # exit code of HAS_AIS_BENCH if ais_bench is missing; a broken interpreter has another one
HAS_AIS_BENCH = f"import importlib.util as u, sys; sys.exit(0 if u.find_spec('ais_bench') else {NO_SUCH_MODULE})"
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
    """The tool for a backend. Raises UserError if it is not installed."""
    if backend != "ascend":
        runtimes.check_device(backend, ",".join(devices))
        start = [sys.executable, "-m", "infer.emulator", "--runtime", backend]
        return Tool(start, devices, ("infer.emulator.main", f"infer.runtimes.{backend}_runtime"))
    try:
        code = subprocess.run([ais_python, "-c", HAS_AIS_BENCH], stdin=subprocess.DEVNULL).returncode
    except OSError:
        raise UserError("no such interpreter", where=ais_python, hint=HINT) from None
    if code == NO_SUCH_MODULE:
        raise UserError("this python has no ais_bench", where=ais_python, hint=HINT)
    if code:
        raise UserError("not a working Python interpreter", where=ais_python, found=f"exit {code}", hint=HINT)
    return Tool([ais_python, "-m", "ais_bench"], devices, ())


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
