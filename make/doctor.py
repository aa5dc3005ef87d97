"""Check that this machine can run a model: packages, tools, chip, backend, checkpoint, data set, disk space.

    make doctor MODEL=hrnet_w18 DATASET=/data/imagenet

It gets make's options from make/options.py (`--set NAME=value`) and writes no files. It runs `npu-smi info` and
AIS_PYTHON with a time limit. It looks for packages without importing them. If a package that the config needs is
missing, it does not check the checkpoint, the data set and the disk space.
Exit 0 if the pipeline can run, else 2 with a line on stderr for each error. Warnings on stderr do not change
the exit code.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Optional

import hrnet
from hrnet.cli import escape_output, first_few, plural
from hrnet.hints import in_call
from hrnet.io.files import as_size
from make.backend import check_backend, resolve_backend
from make.call import Options
from make.classifier import check_classifier
from make.config import find_config
from make.doctor_tools import Report, check_packages, check_tools
from make.files import check_exists, check_files, how_to_get
from make.packages import exports, needed_packages

CLOCK = 60  # seconds: allowed difference between the clocks of two machines
MAKE = (4, 2)  # first version with .SHELLSTATUS
PYTHON = (3, 9)
FLOAT32 = 4  # bytes
INPUT_BYTES = {"float32": FLOAT32, "uint8": 1}  # bytes per value, by INPUT


def count_images(dataset: Path, config: Any) -> tuple[int, int]:
    """Number of images that preprocessing would read, and of files that it would reject without reading them. Raises
    the same UserError as preprocessing."""
    from hrnet.datasets import find_coco, find_images

    if "NUM_CLASSES" in config.MODEL:
        found = find_images(dataset, config.MODEL.NUM_CLASSES)
        return len(found.labels), len(found.broken) + len(found.unlabelled)
    listed = find_coco(dataset, config.DATASET.TEST)
    return len(listed.images), len(listed.broken)


def count_inputs(folder: Path) -> int:
    """Number of inputs of a directory that make preprocess wrote. Raises UserError if its manifest is missing or
    malformed, or if inputs are missing."""
    from hrnet.cli import UserError
    from hrnet.io.manifest import Manifest

    manifest = Manifest.read(folder / "manifest.json")
    names = [f"{image.stem}.{manifest.suffix}" for image in manifest.images]
    if missing := [name for name in names if not (folder / name).is_file()]:
        what = f"{len(missing)} of {len(names)} inputs in manifest.json are missing: {first_few(missing)}"
        hint = "give a complete directory of inputs, such as PREP=build/<MODEL>/prep/<SET>"
        raise UserError(what, where=folder, hint=hint)
    return len(names)


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
        report.show("model", f"checkpoint, data set and disk space not checked: {error.name} is missing")
        return
    from hrnet.cli import UserError

    try:
        config = load_config(call["CFG"], complete=False)
        if call.onnx and Path(call["ONNX"]).is_file():
            config, found = complete(config, call["CFG"], Path(call["ONNX"]))
            report.show("ONNX file", f"{call['ONNX']}: {found}")
        if call.onnx and not is_complete(config):
            return  # check_classifier reports the missing ONNX file
    except UserError as error:
        report.error(str(error))
        return
    weights, dataset = Path(call["WEIGHTS"]), Path(call["DATASET"])
    if exports(call):
        report.show("checkpoint", weights if weights.is_file() else f"{weights} is missing")
        if not weights.is_file():
            hint = "make weights" if config.WEIGHTS.URL else "copy it there, or give WEIGHTS=<file>"
            hint = how_to_get(call, "WEIGHTS") if call.differs_from_default("WEIGHTS") else hint
            report.error(f"{weights}: no such checkpoint; {in_call(hint, call.values)}")
    if call["PREP"]:
        if not (inputs / "manifest.json").is_file():
            return  # check_files reports it
        try:
            count = count_inputs(inputs)
        except UserError as error:
            report.error(str(error))
            return
        report.show("inputs", f"{inputs}: {plural(count, 'input')}")
    else:
        count, rejected = 0, 0
        try:
            count, rejected = count_images(dataset, config)
        except UserError as error:
            if hrnet.BOARD and not dataset.exists():
                report.require(functools.partial(check_exists, name="DATASET"), call)
            else:
                report.error(str(error))
        more = f", {plural(rejected, 'file')} would be rejected" if rejected else ""
        if rejected > int(call["MAX_REJECTED"]) and call["LIMIT"] == "0":
            allow = f"fix or remove {'it' if rejected == 1 else 'them'}, or give MAX_REJECTED={rejected}"
            report.error(f"{dataset}: {more[2:]}, {call['MAX_REJECTED']} allowed; {allow}")
        state = f": {plural(count, 'image')}{more}" if count else ": no images" if dataset.exists() else " is missing"
        report.show("data set", f"{dataset}{state}")
        count = min(count, int(call["LIMIT"]) or count)
    check_disk(report, call, count, values_per_image(config), inputs)
    check_clock(report, call)


def check_clock(report: Report, call: Options) -> None:
    """Warn about a file with a time in the future: in every call, make would run all stages that read it."""
    paths = [Path("Makefile"), Path(call["CFG"]), Path(call["WEIGHTS"]), Path(call["DATASET"])]
    paths += [*call.settings.glob("*.mk"), *call.folder.glob("*.onnx"), *Path(call["DATASET"]).glob("*.txt")]
    ahead = {path: path.stat().st_mtime - time.time() for path in paths if path.exists()}
    path = max(ahead, key=lambda each: ahead[each], default=None)
    if path is not None and ahead[path] > CLOCK:
        late = f"{ahead[path]:.0f} s in the future"
        report.warn(
            f"{path}: its time is {late}, so every call of make runs stages again; set the clock or touch {path}"
        )


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
    line = f"{build}: {as_size(free)} free"
    if count:
        line += f", {as_size(left)} needed for {plural(count, 'image')}"
    report.show("disk", line + (f" ({as_size(done)} already written)" if done else ""))
    if free < left:
        report.error(f"{build}: {as_size(free)} free, {as_size(left)} needed; give BUILD=<directory on a larger disk>")
    if not os.access(existing, os.W_OK):
        report.error(f"{build}: not writable; give BUILD=<another directory>")


def run(call: Options, backend_why: str, make: str, inputs: Path) -> int:
    """Print the report; return the exit code."""
    report = Report()
    report.show("python", f"{platform.python_version()} on {platform.machine()}, {sys.executable}")
    if sys.version_info < PYTHON:
        report.error(f"python: {platform.python_version()}, expected 3.9 or later; give PYTHON=<newer interpreter>")
    report.show("make", make)
    if tuple(int(number) for number in re.findall("[0-9]+", make)[:2]) < MAKE:
        report.error(f"make: {make}, expected GNU make 4.2 or later")
    check_packages(report, needed_packages(call))
    check_tools(report, call, backend_why)
    remembered = [f"{name}={value}" for name, value in call.stored().items() if value and name in call.values]
    report.show("remembered", ", ".join(remembered) or "nothing")
    if call["OM"]:
        report.show("compiled", call["OM"])
    report.require(functools.partial(check_files, dry_run=True), call)
    report.require(check_backend, call)
    report.require(check_classifier, call)
    check_model(report, call, inputs)
    sys.stdout.flush()
    for line in report.warnings:
        print(f"make doctor: warning: {line}", file=sys.stderr)
    for line in report.errors:
        print(f"make doctor: error: {line}", file=sys.stderr)
    if not report.errors:
        print(f"ready to run {call['MODEL']}")
    return 2 if report.errors else 0


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
    find_config(call)
    return run(call, resolve_backend(args.backend_asked, call["OM"])[1], args.make, args.inputs)


if __name__ == "__main__":
    sys.exit(main())
