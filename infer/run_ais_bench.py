"""The seam to ais_bench and its twin: the command is spelled, run, and what it left is read back as one run's.

With several devices ais_bench gives each of them its share (`--divide_input 1`) and a folder of its own below the
outputs' folder, `device<id>_<i>`, with that folder's summary beside it. `Place.gather` brings the outputs together, so
that whoever comes after sees one folder, however many devices there were.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from hrnet.cli import UserError, WorkFailed
from hrnet.io.records import FormatError
from hrnet.io.summary import outputs_by_stem, read_summary
from infer.emulator import path_checks
from infer.output_dir import OutputDir
from infer.runtimes import RUNTIMES, WITH_DEVICES

BACKENDS = ("ascend", *RUNTIMES)
DEVICES = re.compile(r"[0-9]+(,[0-9]+)*")
NO_SUCH_MODULE = 42  # how HAS_AIS_BENCH says no; an interpreter that breaks says something else
HAS_AIS_BENCH = f"import importlib.util as u, sys; sys.exit(0 if u.find_spec('ais_bench') else {NO_SUCH_MODULE})"
REFUSED = 2  # the exit code of both tools for a bad argument
HINT = "set AIS_PYTHON to the python that has ais_bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which tool, and the devices that share its input."""
    parser.add_argument(
        "--device", dest="devices", type=device_list, default="0", help="an id, or several, such as 0,1"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime")
    parser.add_argument("--ais_python", default="python3", help="the interpreter that has ais_bench")


def device_list(text: str) -> list[str]:
    """An argparse type: `0`, or `0,1`."""
    if not DEVICES.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a device's id, or several with commas, such as 0,1, found {text}")
    return text.split(",")


def tool(backend: str, ais_python: str, devices: list[str], alone: bool = False) -> list[str]:
    """The start of the command that `backend` stands for; `alone`: one batch after another, as ais_bench does anyway.
    Raises UserError where there is no such tool."""
    if backend != "ascend":
        path_checks.check_emulator_device(",".join(devices), backend in WITH_DEVICES)
        start = [sys.executable, "-m", "infer.emulator", "--runtime", backend]
        return [*start, "--requests", "1"] if alone else start
    try:
        code = subprocess.run([ais_python, "-c", HAS_AIS_BENCH], stdin=subprocess.DEVNULL).returncode
    except OSError:
        raise UserError("no such interpreter", where=ais_python, hint=HINT) from None
    if code == NO_SUCH_MODULE:
        raise UserError("this python has no ais_bench", where=ais_python, hint=HINT)
    if code:
        raise UserError("does not work as a python", where=ais_python, found=f"exit {code}", hint=HINT)
    return [ais_python, "-m", "ais_bench"]


def build_command(
    start: list[str],
    model: Path,
    inputs: Optional[Path],
    place: OutputDir,
    batch: int,
    devices: list[str],
    loop: int = 1,
    gears: bool = False,
    flip: bool = False,
    dims: Optional[str] = None,
) -> list[str]:
    """The seed's call of ais_bench; several devices share the input. Without inputs each computes one batch of zeros
    `loop` times. `gears`: each input sets the shape; `dims`: this is the shape. `flip`: the twin mirrors each input."""
    source = {"--pure_data_type": "zero", "--loop": loop} if inputs is None else {"--input": inputs}
    flags = {
        "--model": model,
        **source,
        "--output": place.parent,
        "--output_dirname": place.name,
        "--outfmt": place.outfmt,
        "--batchsize": batch,
        "--device": ",".join(devices),
    }
    if gears:
        flags["--auto_set_dymdims_mode"] = 1
    if dims:
        flags["--dymDims"] = dims
    if flip:
        flags["--flip"] = 1
    if len(devices) > 1 and inputs is not None:
        flags["--divide_input"] = 1  # without it each device infers everything
    return start + [str(part) for flag in flags.items() for part in flag]


def execute(spelled: list[str], lock: int, hint: str = "what it finished is kept for a rerun") -> float:
    """Run the tool with its messages on our screen; return its seconds. Raises WorkFailed on its failure, UserError
    where it refused its arguments."""
    print(shlex.join(spelled), flush=True)
    begun = time.perf_counter()
    code = subprocess.run(spelled, pass_fds=[lock]).returncode
    name = " ".join(spelled[1:3])
    if code == REFUSED:
        raise UserError(f"{name} refused what it was given, see above")
    if code:
        raise WorkFailed(f"{name} exited with {code}, see above; {hint}")
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Told:
    """What the tool's summaries say, of all devices together."""

    tool: str
    files: dict[str, list[str]]  # stem -> names of its outputs
    host: dict[str, float]  # read, write, total (s), of the twin alone
    infer: float  # s in which the slowest device computed
    device: dict[str, Any]  # of one: its NPU_compute_time and throughput; of several: theirs by name, and the sum


def summary_paths(place: OutputDir, devices: list[str]) -> list[Path]:
    """Gather outputs and summaries as those of one run; where the summary of each device then is."""
    if len(devices) == 1:
        return [place.beside("summary.json")]
    place.gather()
    return [place.beside(f"device{device}_{i}_summary.json") for i, device in enumerate(devices)]


def collect(place: OutputDir, devices: list[str]) -> Told:
    """Read the tool's summaries and gather its outputs in the one folder. Raises FormatError where a device has no
    summary, or where two inferred one input."""
    paths = summary_paths(place, devices)
    summaries = [read_summary(path) for path in paths]
    files: dict[str, list[str]] = {}
    for path, summary in zip(paths, summaries):
        found = outputs_by_stem(summary, path)
        if twice := sorted(files.keys() & found.keys()):
            raise FormatError(f"{twice[0]} was inferred twice, by another device too", where=path)
        files.update(found)
    figures = [{key: summary[key] for key in ("NPU_compute_time", "throughput")} for summary in summaries]
    if len(devices) == 1:
        device = figures[0]
    else:
        names = [f"device{device}_{i}" for i, device in enumerate(devices)]
        device = {"throughput": sum(each["throughput"] for each in figures), **dict(zip(names, figures))}
    times = [each["NPU_compute_time"] for each in figures]
    return Told(
        tool=summaries[0].get("runtime", "ais_bench"),
        files=files,
        host=summaries[0].get("host_seconds", {}),
        infer=max(time["mean"] * time["count"] / 1000 for time in times),
        device=device,
    )
