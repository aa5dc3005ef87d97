"""Check that this machine can run a model: packages, tools, chip, backend, checkpoint, data set, disk space.

    make doctor MODEL=hrnet_w18 DATASET=/data/imagenet

It gets make's options from make/options.py (`--set NAME=value`) and writes no files. It runs `npu-smi info` and
AIS_PYTHON with a time limit. It does not import the packages that it checks, so it also works if packages are missing.
Exit 0 if the pipeline can run, else 2 with a line on stderr for each missing thing. Warnings on stderr do not change
the exit code.
"""

from __future__ import annotations

import argparse
import functools
import glob
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

import hrnet
from hrnet import cann
from hrnet.cann_tool import find_program
from hrnet.cli import escape_output, plural
from hrnet.hints import in_call, install
from infer import ais_bench_probe
from infer.ais_bench_probe import KINDS, OFFICIAL
from make import options
from make.call import NPU_BACKENDS, OptionError, Options
from make.classifier import check_classifier
from make.npu_smi import chip_rows, full_name
from make.packages import PACKAGES, exports, needed_packages

CLOCK = 60  # seconds: allowed difference between the clocks of two machines
TIMEOUT = 60  # seconds; the first import of ais_bench is slow
MAKE = (4, 2)  # first version with .SHELLSTATUS
PYTHON = (3, 9)
FLOAT32 = 4  # bytes
INPUT_BYTES = {"float32": FLOAT32, "uint8": 1}  # bytes per value, by INPUT
TOOLS = ("atc", "aoe", "npu-smi")
NPUS = "/dev/davinci[0-9]*"


class Report:
    """Prints what is found; collects what is missing, and warnings."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.warnings: list[str] = []

    def show(self, what: str, found: object) -> None:
        print(f"{what:<14} {found}")

    def miss(self, line: str) -> None:
        self.missing.append(line)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def require(self, check: Callable[[Options], None], call: Options) -> None:
        """Run one of make's checks; an error counts as something missing."""
        try:
            check(call)
        except OptionError as error:
            for each in (*error.earlier, error):
                self.miss(str(each.complete(call.values)))


def version_of(name: str, module: str) -> Optional[str]:
    """A package's version, or `unknown version`, without importing the package; None if it is missing."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


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


def count_images(dataset: Path, config: Any) -> tuple[int, int]:
    """Number of images that preprocessing would read, and of files that it would reject without reading them. Raises
    the same UserError as preprocessing."""
    from hrnet.datasets import find_coco, find_images

    if "NUM_CLASSES" in config.MODEL:
        found = find_images(dataset, config.MODEL.NUM_CLASSES)
        return len(found.labels), len(found.broken) + len(found.unlabelled)
    listed = find_coco(dataset, config.DATASET.TEST)
    return len(listed.images), len(listed.broken)


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
        install = f"pip install torch-npu=={torch.partition('+')[0]}" if torch else "pip install torch torch-npu"
        report.warn(f"torch_npu: not installed, so make train uses the CPU although {devices[0]} exists; {install}")
    if not (torch and npu):
        return
    version = torch.partition("+")[0]
    if cuda := cuda_of_torch():
        install = f"pip install torch=={version} --index-url https://download.pytorch.org/whl/cpu"
        line = f"torch: built for CUDA {cuda}, so torch_npu fails with 'Two accelerators'; {install}"
        (report.miss if needed else report.warn)(line)
    if re.findall("[0-9]+", version)[:2] != re.findall("[0-9]+", npu)[:2]:
        report.warn(f"torch_npu: version {npu} does not match torch {version}; pip install torch-npu=={version}")


def check_packages(report: Report, needed: set[str]) -> None:
    for name, package in PACKAGES.items():
        version = version_of(name, package.module)
        if version or name in needed or not hrnet.BOARD:
            report.show(name, version or f"missing (needed for {package.needed_by})")
        if version is None and name in needed:
            report.miss(f"{name}: not installed; {install(name, package.extra, sys.executable)}")
    both = [name for name in ("opencv-python", "opencv-python-headless") if distribution_version(name)]
    if len(both) > 1:
        fix = f'pip uninstall {" ".join(both)}, then pip install "opencv-python-headless>=4.5,<5"'
        report.warn(f"{' and '.join(both)} are both installed and overwrite each other's cv2; {fix}")
    if not hrnet.BOARD:
        check_torch(report, "torch" in needed)
    compiled = importlib.util.find_spec("hrnet._resample")
    how = "" if hrnet.BOARD else "; pip install . with a C compiler"
    report.show("resize", "compiled" if compiled else f"Pillow (same pixels, slower){how}")


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
    report.show("chip", listed or (f"none: {table}" if not answered else "none in npu-smi's table"))
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
    backend, probe = call["BACKEND"], probe_ais_bench(python)
    if rejected := KINDS.get(probe.get("kind", "")) if probe.get("kind") != "missing" else None:
        works, answer = False, f"{rejected}, in {probe['where']}; expected {OFFICIAL}"
    report.show("ais_bench", f"found by {python}" if works else f"not found by {python}: {answer}")
    if probe.get("kind") == "official" and not probe["pkg_resources"]:
        install = f"{python} -m pip install 'setuptools<81'"
        report.warn(f"AIS_PYTHON={python}: pkg_resources is missing, so ais_bench is slower or fails; {install}")
    torch_aie = version_of("mindietorch", "mindietorch") or version_of("torch_aie", "torch_aie")
    report.show("torch_aie", torch_aie or "not installed (needed for BACKEND=torch_aie)")
    names = check_chip(report, call)
    report.show("backend", f"{backend} ({backend_why})")
    if backend == "ascend" and not works:
        report.miss(f"AIS_PYTHON={python}: cannot import ais_bench ({answer}); give the interpreter that has it")
    if backend == "torch_aie" and not torch_aie:
        report.miss("torch_aie: not installed; get it from Huawei, with its build of torch (it is not on PyPI)")
    if backend == "ascend" and call["PRECISION"] == "int8":
        amct = find_program("amct_onnx")
        report.show("amct_onnx", amct or "not on PATH")
        if not amct:
            hint = "install CANN's AMCT in a separate Python environment, and add the bin of this environment to PATH"
            report.miss(f"amct_onnx: not on PATH, needed for PRECISION=int8; {hint}")
    if backend in NPU_BACKENDS and call["PRECISION"] == "fp32":
        report.show("precision", "fp32 is atc's force_fp32: convolutions still read float16 if they can (docs/npu.md)")
    if backend in NPU_BACKENDS and names and call["SOC"] not in names:
        report.miss(f"SOC={call['SOC']}: not the chip of this machine; use SOC={names[0]}")


def values_per_image(config: Any) -> tuple[int, int]:
    """Number of values in an image's input and in its outputs; for pose, with the gear of median size."""
    if "IMAGE_SIZE" in config.MODEL:
        return 3 * math.prod(config.MODEL.IMAGE_SIZE), config.MODEL.NUM_CLASSES
    gears = config.INPUT.GEARS or [[config.DATASET.INPUT_SIZE] * 2]
    pixels = sorted(map(math.prod, gears))[len(gears) // 2]
    joints = config.MODEL.NUM_JOINTS
    return 3 * pixels, 2 * joints * pixels // 16 + joints * pixels // 4


def check_model(report: Report, call: Options, inputs: Path) -> None:
    """Check config, checkpoint, data set, and the disk space for the inputs and outputs of all images."""
    try:
        from hrnet.config import is_complete, load_config

        if call.onnx and Path(call["ONNX"]).is_file():
            from atc.classifier import complete
    except ModuleNotFoundError as error:
        report.show("model", f"not checked: {error.name} is missing")
        return
    from hrnet.cli import UserError

    try:
        config = load_config(call["CFG"], complete=False)
        if call.onnx and Path(call["ONNX"]).is_file():
            config, found = complete(config, call["CFG"], Path(call["ONNX"]))
            report.show("ONNX file", f"{call['ONNX']}: {found}")
            if found.batch > 0 and str(found.batch) != call["BATCH"]:
                report.miss(f"{call['ONNX']}: its batch size is fixed; give BATCH={found.batch}")
        if call.onnx and not is_complete(config):
            return  # check_classifier reports the missing ONNX file
    except UserError as error:
        report.miss(str(error))
        return
    weights, dataset = Path(call["WEIGHTS"]), Path(call["DATASET"])
    if exports(call):
        report.show("checkpoint", weights if weights.is_file() else f"{weights} is missing")
        if not weights.is_file():
            hint = "make weights" if config.WEIGHTS.URL else "copy it there, or give WEIGHTS=<file>"
            report.miss(f"{weights}: no such checkpoint; {in_call(hint, call.values)}")
    if call["PREP"]:
        count = len([*inputs.glob("*.bin"), *inputs.glob("*.npy")])
        report.show("inputs", f"{inputs}: {plural(count, 'input')}")
    else:
        count, rejected = 0, 0
        try:
            count, rejected = count_images(dataset, config)
        except UserError as error:
            report.miss(str(error))
        more = f", {plural(rejected, 'file')} would be rejected" if rejected else ""
        report.show("data set", f"{dataset}: {plural(count, 'image')}{more}" if count else f"{dataset}: no images")
        count = min(count, int(call["LIMIT"]) or count)
    check_disk(report, call, count, values_per_image(config), inputs)
    check_clock(report, call)


def check_clock(report: Report, call: Options) -> None:
    """Warn about a file with a time in the future: make would run the stages that read it again in every call."""
    paths = [Path("Makefile"), Path(call["CFG"]), Path(call["WEIGHTS"]), Path(call["DATASET"])]
    paths += [*call.settings.glob("*.mk"), *call.folder.glob("*.onnx"), *Path(call["DATASET"]).glob("*.txt")]
    ahead = {path: path.stat().st_mtime - time.time() for path in paths if path.exists()}
    path = max(ahead, key=lambda each: ahead[each], default=None)
    if path is not None and ahead[path] > CLOCK:
        late = f"{ahead[path]:.0f} s in the future"
        report.warn(f"{path}: its time is {late}, so make repeats work; set the clock or touch {path}")


def check_disk(report: Report, call: Options, count: int, values: tuple[int, int], inputs: Path) -> None:
    """Check that the inputs and outputs of `count` images fit on the disk of BUILD."""
    build = Path(call["BUILD"])
    passes = 2 if call.pose and call["FLIP"] == "1" else 1
    copies = passes if call["BACKEND"] == "ascend" else 1  # ais_bench needs flipped inputs as files
    parts, devices = int(call["SHARDS"] or 1), len(call["DEVICE"].split(","))
    part = -(-count // parts)
    prepared, computed = min(count, part * (devices + 1)), min(count, part * devices)  # images on disk at a time
    need = prepared * INPUT_BYTES[call["INPUT"]] * values[0] * copies + computed * passes * FLOAT32 * values[1]
    done = sum(entry.stat().st_size for entry in os.scandir(inputs)) if inputs.is_dir() else 0
    left = max(0, need - done)
    existing = next(folder for folder in (build.absolute(), *build.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    line = f"{build}: {free / 1e9:.1f} GB free, {left / 1e9:.1f} GB needed for {plural(count, 'image')}"
    report.show("disk", line + (f" ({done / 1e9:.1f} GB already written)" if done else ""))
    if free < left:
        report.miss(f"{build}: {free / 1e9:.1f} GB free, {left / 1e9:.1f} GB needed; set BUILD= to a larger disk")
    if not os.access(existing, os.W_OK):
        report.miss(f"{build}: not writable; set BUILD= to another directory")


def run(call: Options, backend_why: str, make: str, inputs: Path) -> int:
    """Print the report; return the exit code."""
    report = Report()
    report.show("python", f"{platform.python_version()} on {platform.machine()}, {sys.executable}")
    if sys.version_info < PYTHON:
        report.miss(f"python: {platform.python_version()}, expected 3.9 or later; give PYTHON=<newer interpreter>")
    report.show("make", make)
    if tuple(int(number) for number in re.findall("[0-9]+", make)[:2]) < MAKE:
        report.miss(f"make: {make}, expected GNU make 4.2 or later")
    check_packages(report, needed_packages(call))
    check_tools(report, call, backend_why)
    remembered = [f"{name}={value}" for name, value in call.remembered().items()]
    report.show("remembered", ", ".join(remembered) or "nothing")
    if call["OM"]:
        report.show("compiled", call["OM"])
    report.require(functools.partial(options.check_files, dry_run=True), call)
    report.require(options.check_backend, call)
    report.require(check_classifier, call)
    check_model(report, call, inputs)
    sys.stdout.flush()
    for line in report.warnings:
        print(f"make doctor: warning: {line}", file=sys.stderr)
    for line in report.missing:
        print(f"make doctor: missing: {line}", file=sys.stderr)
    if not report.missing:
        print(f"ready to run {call['MODEL']}")
    return 2 if report.missing else 0


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", required=True, metavar="NAME=value", help="each of make's options")
    parser.add_argument("--backend_asked", required=True, help="BACKEND before make/options.py resolved it")
    parser.add_argument("--inputs", type=Path, required=True, help="the directory of inputs, which may not exist yet")
    parser.add_argument("--make", required=True, help="the version of make")
    return parser.parse_args(argv)


def main(argv: Optional[list[str]] = None) -> int:
    escape_output()
    args = parse_args(argv)
    values = dict(pair.split("=", 1) for pair in args.set)
    call = Options(values, {"OM"}, {"doctor"})
    options.find_config(call)
    return run(call, options.resolve_backend(args.backend_asked, call["OM"])[1], args.make, args.inputs)


if __name__ == "__main__":
    sys.exit(main())
