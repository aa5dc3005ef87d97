"""Build and run the command of ais_bench or its emulator, and read the summary that it wrote.

Each command uses one device. ais_bench can divide inputs among several devices (--divide_input), but then it ignores
--device and loads the model on device 0, and in some releases it fails.
"""

from __future__ import annotations

import argparse
import json
import os
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
from infer import ais_bench_probe, runtimes
from infer.ais_bench_probe import KINDS, OFFICIAL
from infer.emulator import path_checks
from infer.output_dir import OutputDir

BACKENDS = ("ascend", *runtimes.RUNTIMES)
MODULE = ["-m", "ais_bench"]
PROBE = Path(ais_bench_probe.__file__)
BAD_ARGUMENT = 2  # exit code of both tools
HINT = "set AIS_PYTHON to the Python interpreter that has ais_bench"


class Tool(NamedTuple):
    """ais_bench, or the emulator with one runtime."""

    start: list[str]  # the first words of the command
    modules: tuple[str, ...]  # modules of this repository that it runs; empty for ais_bench

    @property
    def settings(self) -> list[str]:
        """The part of `start` that affects the outputs. The interpreter affects them only with ais_bench."""
        return self.start[1:] if self.modules else self.start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for `find_tool`."""
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime", help="ascend: ais_bench; else: emulator")
    parser.add_argument("--ais_python", default="python3", help="Python interpreter that has ais_bench, for ascend")


def device_id(text: str) -> str:
    """An argparse type: a device id such as `0`."""
    if not (text.isascii() and text.isdigit()):
        hint = "; for several devices run make eval DEVICE=0,1" if "," in text else ""
        raise argparse.ArgumentTypeError(f"expected a device id such as 0, found {text!r}{hint}")
    return text


def device_list(text: str) -> list[str]:
    """An argparse type: one or more device ids, such as `0` or `0,1`."""
    return [device_id(part) for part in text.split(",")]


def find_tool(backend: str, ais_python: str, devices: Sequence[str]) -> Tool:
    """The tool for a backend. Raises UserError if it is not installed or not the supported ais_bench."""
    if backend != "ascend":
        runtimes.check_device(backend, ",".join(devices))
        start = [sys.executable, "-m", "infer.emulator", "--runtime", backend]
        return Tool(start, ("infer.emulator.main", f"infer.runtimes.{backend}_runtime"))
    check_ais_bench(ais_python)
    return Tool([ais_python, *MODULE], ())


def check_ais_bench(ais_python: str) -> None:
    """Raise UserError unless the interpreter has a supported ais_bench."""
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
        hint = f"{ais_python} -m pip install 'setuptools<81'"
        raise UserError("pkg_resources, which ais_bench needs, is not installed", where=ais_python, hint=hint)


def check_paths(model: Path, inputs: Optional[Path], output: OutputDir) -> None:
    """Raise UserError for a path or owner that ais_bench rejects. ais_bench checks this too, but its message contains
    no reason and no hint."""
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
    device: str,
    loop: int = 1,
    gears: bool = False,
    dims: Optional[str] = None,
) -> list[str]:
    """Build the command of the model zoo's README. `gears`: each input sets the shape; `dims`: one shape for all
    inputs. Without `inputs` the device computes one batch of zeros `loop` times."""
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
        "--device": device,
    }
    if gears:
        flags["--auto_set_dymdims_mode"] = 1
    if dims:
        flags["--dymDims"] = dims
    return start + [str(part) for flag in flags.items() for part in flag]


def execute(commands: Sequence[list[str]], locks: Sequence[int], hint: str) -> float:
    """Run the commands, one per device, at the same time; they inherit the file descriptors `locks`. Returns the
    seconds until the last has ended. Raises WorkFailed if one fails, UserError if one rejects its arguments."""
    for command_line in commands:
        print(shlex.join(command_line), flush=True)
    started = time.perf_counter()
    processes = [subprocess.Popen(command_line, pass_fds=locks) for command_line in commands]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()  # processes that still run after Ctrl-C
            process.wait()
    seconds = time.perf_counter() - started
    name = commands[0][2]  # ais_bench or infer.emulator
    if BAD_ARGUMENT in codes:
        raise UserError(f"{name} failed, see above", found="exit 2")
    if any(codes):
        raise WorkFailed(f"{name} failed, see above", found=f"exit {max(codes, key=abs)}", hint=hint)
    return seconds


@dataclass(frozen=True)
class ToolResult:
    """The content of the tool's summary."""

    tool: str
    files: dict[str, list[str]]  # stem -> names of its outputs
    host: dict[str, float]  # seconds for read, write and total; only from the emulator
    infer: float  # seconds in which the device computed
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
