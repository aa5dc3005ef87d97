"""The command of ais_bench or its emulator: build it, run it, and read the summaries that it wrote.

A call uses one device: ais_bench's own division of inputs among devices (--divide_input) loads the model on device 0
whatever --device says, and fails in some of its releases.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hrnet.cli import UserError, WorkFailed
from hrnet.io.summary import outputs_by_stem, read_summary
from infer import runtimes
from infer.output_dir import OutputDir

BACKENDS = ("ascend", *runtimes.RUNTIMES)
NO_SUCH_MODULE = 42  # exit code of HAS_AIS_BENCH if ais_bench is missing; a broken interpreter has another one
HAS_AIS_BENCH = f"import importlib.util as u, sys; sys.exit(0 if u.find_spec('ais_bench') else {NO_SUCH_MODULE})"
BAD_ARGUMENT = 2  # exit code of both tools
HINT = "set AIS_PYTHON to the python that has ais_bench"


class Tool(NamedTuple):
    """ais_bench, or its emulator with one runtime."""

    start: list[str]  # the first words of its command
    modules: tuple[str, ...]  # the code of this repository that it runs; empty for ais_bench

    @property
    def settings(self) -> list[str]:
        """What of `start` changes the outputs: the interpreter does for ais_bench."""
        return self.start[1:] if self.modules else self.start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `find_tool`."""
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime")
    parser.add_argument("--ais_python", default="python3", help="the interpreter that has ais_bench")


def device_id(text: str) -> str:
    """An argparse type: `0`."""
    if not (text.isascii() and text.isdigit()):
        hint = "; several devices compute parts of the images: make eval DEVICE=0,1" if "," in text else ""
        raise argparse.ArgumentTypeError(f"expected a device id such as 0, found {text!r}{hint}")
    return text


def device_list(text: str) -> list[str]:
    """An argparse type: `0`, or `0,1`."""
    return [device_id(part) for part in text.split(",")]


def find_tool(backend: str, ais_python: str, devices: Sequence[str]) -> Tool:
    """The tool for a backend. Raises UserError if it is not installed."""
    if backend != "ascend":
        runtimes.check_device(backend, ",".join(devices))
        start = [sys.executable, "-m", "infer.emulator", "--runtime", backend]
        return Tool(start, ("infer.emulator.main", f"infer.runtimes.{backend}_runtime"))
    try:
        code = subprocess.run([ais_python, "-c", HAS_AIS_BENCH], stdin=subprocess.DEVNULL).returncode
    except OSError:
        raise UserError("no such interpreter", where=ais_python, hint=HINT) from None
    if code == NO_SUCH_MODULE:
        raise UserError("this python has no ais_bench", where=ais_python, hint=HINT)
    if code:
        raise UserError("not a working Python interpreter", where=ais_python, found=f"exit {code}", hint=HINT)
    return Tool([ais_python, "-m", "ais_bench"], ())


def build_command(
    start: list[str],
    model: Path,
    inputs: Optional[Path],
    output: OutputDir,
    batch: int,
    device: str,
    loop: int = 1,
    gears: bool = False,
    dims: Optional[str] = None,
) -> list[str]:
    """The command of the model zoo's README. `gears`: each input sets the shape; `dims`: one shape for all. Without
    `inputs` the device computes one batch of zeros `loop` times."""
    source = {"--pure_data_type": "zero", "--loop": loop} if inputs is None else {"--input": inputs}
    flags = {
        "--model": model,
        **source,
        "--output": output.folder.parent,
        "--output_dirname": output.folder.name,
        "--outfmt": output.outfmt,
        "--batchsize": batch,
        "--device": device,
    }
    if gears:
        flags["--auto_set_dymdims_mode"] = 1
    if dims:
        flags["--dymDims"] = dims
    return start + [str(part) for flag in flags.items() for part in flag]


def execute(commands: Sequence[list[str]], locks: Sequence[int], hint: str) -> float:
    """Run the tool, once for each device at the same time; it prints to our screen and inherits `locks`. Return the
    seconds until the last has ended. Raises WorkFailed if one fails, UserError if it rejects its arguments."""
    for command_line in commands:
        print(shlex.join(command_line), flush=True)
    begun = time.perf_counter()
    processes = [subprocess.Popen(command_line, pass_fds=locks) for command_line in commands]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()  # those still at work when Ctrl-C ends the first
            process.wait()
    seconds = time.perf_counter() - begun
    name = " ".join(commands[0][1:3])
    if BAD_ARGUMENT in codes:
        raise UserError(f"{name} rejected its arguments, see above", found="exit 2")
    if any(codes):
        raise WorkFailed(f"{name} failed, see above", found=f"exit {max(codes, key=abs)}", hint=hint)
    return seconds


@dataclass(frozen=True)
class ToolResult:
    """The content of the tool's summary."""

    tool: str
    files: dict[str, list[str]]  # stem -> names of its outputs
    host: dict[str, float]  # read, write, total (s); only from the emulator
    infer: float  # s in which the device computed
    device: dict[str, Any]  # NPU_compute_time and throughput


def collect(output: OutputDir) -> ToolResult:
    """Read the tool's summary. Raises FormatError if it is missing."""
    path = output.beside("summary.json")
    summary = read_summary(path)
    time_of_batches = summary["NPU_compute_time"]
    return ToolResult(
        tool=summary.get("runtime", "ais_bench"),
        files=outputs_by_stem(summary, path),
        host=summary.get("host_seconds", {}),
        infer=time_of_batches["mean"] * time_of_batches["count"] / 1000,
        device={key: summary[key] for key in ("NPU_compute_time", "throughput")},
    )
