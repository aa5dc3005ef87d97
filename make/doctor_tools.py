"""The part of make doctor that checks packages, tools and the chip; it imports none of the packages."""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Optional

import hrnet
from hrnet import cann
from hrnet.cann_tool import find_program
from hrnet.hints import PIP, install
from infer import ais_bench_probe
from infer.ais_bench_probe import KINDS, OFFICIAL
from make.call import NPU_BACKENDS, OptionError, Options
from make.npu_smi import chip_rows, full_name
from make.packages import PACKAGES

UNKNOWN = "unknown version"  # of a package whose module exists, but which pip does not list
TIMEOUT = 60  # seconds; the first import of ais_bench is slow
TOOLS = ("atc", "aoe", "npu-smi")
NPUS = "/dev/davinci[0-9]*"
CPU_BUILD = "--index-url https://download.pytorch.org/whl/cpu"  # PyPI's torch for x86-64 is a CUDA build
INSTALL_BOTH = f"{PIP} install torch {CPU_BUILD}, then torch-npu of the same version (docs/npu.md)"


class Report:
    """Prints what is found; collects errors and warnings."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def show(self, what: str, found: object) -> None:
        print(f"{what:<14} {found}")

    def error(self, line: str) -> None:
        self.errors.append(line)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def require(self, check: Callable[[Options], None], call: Options) -> None:
        """Run one of make's checks, and collect its errors."""
        try:
            check(call)
        except OptionError as error:
            for each in (*error.earlier, error):
                self.error(str(each.complete(call.values)))


def version_of(name: str, module: str) -> Optional[str]:
    """A package's version, or UNKNOWN, without importing the package; None if it is missing."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def ask(command: list[str]) -> tuple[bool, str]:
    """Run a command. Returns whether it succeeded, and its output or the reason for the failure in one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return False, f"no answer in {TIMEOUT} s"
    except OSError as error:
        return False, error.strerror or str(error)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return False, last[-1] if last else f"exit {done.returncode}"
    return True, done.stdout


def chips(table: str) -> list[tuple[str, str]]:
    """(SOC name, health) of each NPU in the table of `npu-smi info`."""
    return [(row.name, row.health) for row in chip_rows(table)]


def soc_name(python: str) -> str:
    """The chip's name from CANN's Python package `acl`; empty if that is not available."""
    answered, text = ask([python, "-c", "import acl; print(acl.get_soc_name())"])
    last = text.split()[-1] if answered and text.split() else ""
    return last if re.fullmatch(cann.CHIP, last) else ""


def distribution_version(name: str) -> Optional[str]:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cuda_of_torch() -> str:
    """The CUDA version that the installed torch was built for, without importing it; empty for the CPU build."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else Path("version.py")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(r"^cuda\b[^=\n]*= *'([^'\n]+)'", text, re.MULTILINE)
    return found[1] if found else ""


def check_torch(report: Report, needed: bool) -> None:
    """Check that torch, torch_npu and this machine match."""
    torch, npu = version_of("torch", "torch"), version_of("torch-npu", "torch_npu")
    report.show("torch_npu", npu or "not installed (needed for make train on an NPU)")
    devices = sorted(glob.glob(NPUS))
    if devices and not npu:
        install = f"{PIP} install torch-npu=={torch.partition('+')[0]}" if torch else INSTALL_BOTH
        report.warn(f"torch_npu: not installed, so make train uses the CPU although {devices[0]} exists; {install}")
    if not (torch and npu):
        return
    version = torch.partition("+")[0]
    if cuda := cuda_of_torch():
        install = f"{PIP} install torch=={version} {CPU_BUILD}"
        line = f"torch: built for CUDA {cuda}, so torch_npu fails with 'Two accelerators'; {install}"
        (report.error if needed else report.warn)(line)
    if re.findall("[0-9]+", version)[:2] != re.findall("[0-9]+", npu)[:2]:
        report.warn(f"torch_npu: version {npu} does not match torch {version}; {PIP} install torch-npu=={version}")


def check_packages(report: Report, needed: set[str]) -> None:
    missing = []
    for name, package in PACKAGES.items():
        version = version_of(name, package.module)
        if version or name in needed or not hrnet.BOARD:
            report.show(name, version or f"missing (needed for {package.needed_by})")
        if version is None and name in needed:
            missing.append(name)
    if missing:
        extras = ",".join(sorted({PACKAGES[name].extra for name in missing} - {""}))
        one_command = install(" ".join(missing), extras)
        report.error(f"{', '.join(missing)}: not installed; {one_command}")
    both = [name for name in ("opencv-python", "opencv-python-headless") if distribution_version(name)]
    if len(both) > 1:
        fix = f'{PIP} uninstall -y {" ".join(both)}; {PIP} install "opencv-python-headless>=4.5,<5"'
        report.warn(f"{' and '.join(both)} are both installed and overwrite each other's cv2; {fix}")
    if not hrnet.BOARD:
        check_torch(report, "torch" in needed)
    compiled = importlib.util.find_spec("hrnet._resample")
    how = "" if hrnet.BOARD else f"; if there is a C compiler: {PIP} install --no-deps -e ."
    report.show("resize", "in C (hrnet/_resample.c)" if compiled else f"Pillow (same pixels, slower){how}")


def probe_ais_bench(python: str) -> dict[str, Any]:
    """The result of infer.ais_bench_probe in an interpreter; {} if it fails."""
    answered, text = ask([python, "-c", Path(ais_bench_probe.__file__).read_text(encoding="utf-8")])
    try:
        found: dict[str, Any] = json.loads(text) if answered else {}
    except ValueError:
        return {}
    return found


def check_chip(report: Report, call: Options) -> list[str]:
    """Show the chips of this machine; return their names for atc."""
    if not shutil.which("npu-smi"):
        report.show("chip", "unknown without npu-smi")
        return []
    answered, table = ask(["npu-smi", "info"])
    rows = chip_rows(table) if answered else []
    full = {name: full_name(row, ask) for name, row in {row.name: row for row in reversed(rows)}.items()}
    listed = ", ".join(f"SOC={full[row.name]} ({row.health})" for row in rows)
    report.show(
        "chip", listed or (f"unknown, npu-smi info failed: {table}" if not answered else "none in npu-smi's table")
    )
    by_cann = soc_name(call["AIS_PYTHON"])
    if by_cann:
        report.show("soc name", f"SOC={by_cann} (acl.get_soc_name())")
    return [by_cann] if by_cann else sorted(set(full.values()))


def check_tools(report: Report, call: Options, backend_why: str) -> None:
    """Check the real tools, the chip, and the backend."""
    for tool in TOOLS:
        report.show(tool, shutil.which(tool) or "not on PATH")
    python = call["AIS_PYTHON"]
    works, answer = ask([python, "-c", "import ais_bench, aclruntime"])
    found = f"found by {python}" if works else f"not found by {python}: {answer}"
    problem = f"cannot import ais_bench ({answer})"
    backend, probe = call["BACKEND"], probe_ais_bench(python)
    if rejected := KINDS.get(probe.get("kind", "")) if probe.get("kind") != "missing" else None:
        works, problem = False, f"{rejected} (expected {OFFICIAL}, found {probe['where']})"
        found = f"not supported: {problem}"
    report.show("ais_bench", found)
    if probe.get("kind") == "official" and not probe["pkg_resources"]:
        install = f"{python} -m pip install 'setuptools<81'"
        report.warn(f"AIS_PYTHON={python}: pkg_resources is missing, so ais_bench is slower or fails; {install}")
    torch_aie = version_of("mindietorch", "mindietorch") or version_of("torch_aie", "torch_aie")
    report.show("torch_aie", torch_aie or "not installed (needed for BACKEND=torch_aie)")
    names = check_chip(report, call)
    report.show("backend", f"{backend} ({backend_why})")
    if backend == "ascend" and not works:
        report.error(f"AIS_PYTHON={python}: {problem}; give the interpreter that has ais_bench")
    if backend == "torch_aie" and not torch_aie:
        report.error("torch_aie: not installed; get it from Huawei, with its build of torch (it is not on PyPI)")
    if backend == "ascend" and call["PRECISION"] == "int8":
        amct = find_program("amct_onnx")
        report.show("amct_onnx", amct or "not on PATH")
        if not amct:
            hint = "install CANN's AMCT in a separate Python environment, and add the bin directory of that one to PATH"
            report.error(f"amct_onnx: not on PATH, needed for PRECISION=int8; {hint}")
    if backend == "ascend" and call["PRECISION"] == "fp32":
        report.show(
            "precision",
            "fp32 is atc's force_fp32: convolutions and matrix products may still read float16 (docs/npu.md)",
        )
    if backend in NPU_BACKENDS and names and call["SOC"] not in names:
        report.error(f"SOC={call['SOC']}: not the chip of this machine; use SOC={names[0]}")
