"""What stands in the way of a run on this machine: packages, tools, chip, backend, checkpoint, data set, free disk.

    make doctor MODEL=hrnet_w18 DATASET=/data/imagenet
    python -m make.doctor --cfg configs/hrnet_w18.yaml --dataset /data/imagenet

Reads nothing but what it is asked about and writes nothing. It starts `npu-smi info` and AIS_PYTHON, each with a time
limit, and imports no package to look at it: it works where they are missing. Exit 0 when the chain can run as asked,
2 with a line on stderr for each thing that is missing.

The table of `npu-smi info` is read as seed 004 prints it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

TIMEOUT = 60  # seconds for a tool's answer; the first import of ais_bench is slow
MAKE = (4, 2)  # $(file <…)
PYTHON = (3, 9)
FLOAT32 = 4  # bytes
INPUT_BYTES = {"float32": FLOAT32, "uint8": 1}  # of a value, by make's INPUT
SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
TOOLS = ("atc", "aoe", "npu-smi")
BY_TORCH = ("torchscript", "torch_aie")  # backends that compute with torch
LAYOUTS = "val/*.JPEG with val_label.txt, val/<class>/*, or val_list.txt"
COCO = "annotations/person_keypoints_val2017.json with images/val2017/*.jpg"


class Package(NamedTuple):
    """One of pyproject.toml's packages."""

    module: str
    needed_by: str
    install: str  # for pip


CORE = "every stage"
IMAGES = "make preprocess, and pose"
POSE = "make eval of pose"
PACKAGES = {
    "numpy": Package("numpy", CORE, "."),
    "onnx": Package("onnx", CORE, "."),
    "onnxruntime": Package("onnxruntime", CORE, "."),
    "Pillow": Package("PIL", CORE, "."),
    "PyYAML": Package("yaml", CORE, "."),
    "tqdm": Package("tqdm", CORE, "."),
    "yacs": Package("yacs", CORE, "."),
    "opencv-python-headless": Package("cv2", IMAGES, "."),
    "simplejpeg": Package("simplejpeg", "make preprocess", "."),
    "pycocotools": Package("pycocotools", POSE, "."),
    "torch": Package("torch", "make onnx, REFERENCE=torch, BACKEND=torchscript", ".[torch]"),
    "safetensors": Package("safetensors", "a checkpoint in .safetensors", ".[torch]"),
    "openvino": Package("openvino", "BACKEND=openvino", ".[openvino]"),
    "scikit-learn": Package("sklearn", "make demo", ".[demo]"),
    "pytest": Package("pytest", "make test", ".[dev]"),
    "pytest-xdist": Package("xdist", "make test", ".[dev]"),
    "hypothesis": Package("hypothesis", "make test", ".[dev]"),
    "ruff": Package("ruff", "make check", ".[dev]"),
    "mypy": Package("mypy", "make check", ".[dev]"),
}


class Findings:
    """What is told on stdout, and what is missing."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def tell(self, what: str, found: object) -> None:
        print(f"{what:<14} {found}")

    def miss(self, line: str) -> None:
        self.missing.append(line)


def version_of(name: str, module: str) -> Optional[str]:
    """A package's version without importing it; None where it is missing."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def ask(command: list[str]) -> tuple[bool, str]:
    """Whether a command succeeds, and what it prints, or the last line of why not."""
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
    """(SOC name, health) of each NPU in the table of `npu-smi info`: its rows `| 0  310P3 | OK | …`; those of the chips
    below them have a bus id in the place of the health."""
    rows = re.findall(r"^\| *[0-9]+ +(\w+) *\| *([A-Za-z]+) *\|", table, re.MULTILINE)
    return [(name if name.startswith("Ascend") else f"Ascend{name}", health) for name, health in rows]


def count_images(dataset: Path, pose: bool) -> int:
    """How many images the data set has, to within those without a label; 0 where it is none."""
    if pose:
        folder = dataset / "images/val2017"
        return len(os.listdir(folder)) if folder.is_dir() and (dataset / COCO.split(" ")[0]).is_file() else 0
    if (dataset / "val_list.txt").is_file() and not (dataset / "val_label.txt").is_file():
        return sum(bool(line.strip()) for line in (dataset / "val_list.txt").open("rb"))
    folders = [dataset / "val"]
    if not (dataset / "val_label.txt").is_file():
        folders = [entry for entry in dataset.glob("val/*") if entry.is_dir()]
    return sum(not name.startswith(".") for folder in folders if folder.is_dir() for name in os.listdir(folder))


def check_packages(findings: Findings, needed: set[str]) -> None:
    """Every package with its version; those `needed` must be there."""
    for name, package in PACKAGES.items():
        version = version_of(name, package.module)
        findings.tell(name, version or f"missing, for {package.needed_by}")
        if version is None and name in needed:
            findings.miss(f'{name}: not installed; pip install "{package.install}", or make setup')
    compiled = importlib.util.find_spec("hrnet._resample")
    findings.tell("resize", "compiled" if compiled else "by Pillow: as exact, slower; pip install . with a C compiler")


def check_tools(findings: Findings, backend: str, ais_python: str, soc: str, om: Optional[Path]) -> None:
    """The real tools, the chip, and the backend that is taken; what that one needs must be there: atc only where no
    compiled model is brought."""
    paths = {tool: shutil.which(tool) for tool in TOOLS}
    for tool, path in paths.items():
        findings.tell(tool, path or "not on PATH")
    can, answer = ask([ais_python, "-c", "import ais_bench, aclruntime"])
    findings.tell("ais_bench", f"by {ais_python}" if can else f"not by {ais_python}: {answer}")
    torch_aie = version_of("torch_aie", "torch_aie")
    findings.tell("torch_aie", torch_aie or "not installed, for BACKEND=torch_aie")
    found = []
    if paths["npu-smi"]:
        works, table = ask(["npu-smi", "info"])
        found = chips(table) if works else []
        told = ", ".join(f"SOC={name} ({health})" for name, health in found)
        findings.tell("chip", told or (f"none: {table}" if not works else "none in npu-smi's table"))
    else:
        findings.tell("chip", "not known without npu-smi")

    taken = backend
    if backend == "auto":
        without = "torchscript" if om and om.suffix == ".ts" else "onnxruntime"
        taken = "ascend" if (om.suffix == ".om" if om else paths["atc"]) else without
        why = f"OM={om}" if om else "atc is on PATH" if paths["atc"] else "no atc on PATH"
        findings.tell("backend", f"auto is {taken}: {why}")
    else:
        findings.tell("backend", f"{taken}, as asked")
    if taken == "ascend":
        if not (paths["atc"] or om):
            findings.miss(f"atc: not on PATH; {SET_ENV}")
        if not can:
            findings.miss(f"ais_bench: not by AIS_PYTHON={ais_python} ({answer}); give the python that has it")
    if taken == "torch_aie" and not torch_aie:
        findings.miss("torch_aie: not installed; it comes from Huawei and no package index, beside its own torch")
    if taken in ("ascend", "torch_aie"):
        names = sorted({name for name, _ in found})
        if names and soc not in names:
            findings.miss(f"SOC={soc}: not this machine's chip; give SOC={names[0]}")


def check_model(findings: Findings, args: argparse.Namespace) -> None:
    """Config, checkpoint, data set and the disk that the inputs and outputs of all images take."""
    try:
        from hrnet.config import load_config
    except ModuleNotFoundError as error:
        findings.tell("model", f"not looked at without {error.name}")
        return
    from hrnet.cli import UserError

    try:
        config = load_config(args.cfg)
    except UserError as error:
        findings.miss(str(error))
        return
    if exports(args):
        is_there = args.weights.is_file()
        findings.tell("checkpoint", args.weights if is_there else f"{args.weights} is missing")
        if not is_there:
            hint = "make weights" if config.WEIGHTS.URL else "put it there or give WEIGHTS=<file>"
            findings.miss(f"{args.weights}: no such checkpoint; {hint}")
    if args.prepared:
        count = len([*args.prep.glob("*.bin"), *args.prep.glob("*.npy")])
        findings.tell("inputs", f"{args.prep}: {count}, brought")
    else:
        count = count_images(args.dataset, args.passes > 0) if args.dataset.is_dir() else 0
        findings.tell("data set", f"{args.dataset}: {count} images" if count else f"{args.dataset}: none")
        if not count:
            findings.miss(
                f"{args.dataset}: no images (expected {COCO if args.passes else LAYOUTS}); give DATASET=<folder>"
            )
        count = min(count, args.limit or count)
    inputs, outputs = values_an_image(config)
    kept = min(count, args.chunk or count) * max(1, args.passes)
    need = count * INPUT_BYTES[args.input] * inputs * (2 if args.mirrored else 1) + kept * FLOAT32 * outputs
    done = sum(entry.stat().st_size for entry in os.scandir(args.prep)) if args.prep and args.prep.is_dir() else 0
    left = max(0, need - done)
    there = next(folder for folder in (args.build.absolute(), *args.build.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    told = f"{args.build}: {free / 1e9:.1f} GB free, {left / 1e9:.1f} GB needed for {count} images"
    findings.tell("disk", told + (f" ({done / 1e9:.1f} GB are there)" if done else ""))
    if free < left:
        findings.miss(f"{args.build}: {free / 1e9:.1f} GB free of {left / 1e9:.1f} GB; set BUILD= to a larger disk")
    if not os.access(there, os.W_OK):
        findings.miss(f"{args.build}: cannot be written; set BUILD= to another folder")


def values_an_image(config: Any) -> tuple[int, int]:
    """How many numbers an image's input and its outputs hold; of pose, where shapes vary, those of the middle gear."""
    if "IMAGE_SIZE" in config.MODEL:
        return 3 * math.prod(config.MODEL.IMAGE_SIZE), config.MODEL.NUM_CLASSES
    gears = config.INPUT.GEARS or [[config.DATASET.INPUT_SIZE] * 2]
    pixels = sorted(map(math.prod, gears))[len(gears) // 2]
    joints = config.MODEL.NUM_JOINTS
    return 3 * pixels, 2 * joints * pixels // 16 + joints * pixels // 4


def check_brought(findings: Findings, om: Path) -> None:
    """A compiled model that was brought, and its record."""
    findings.tell("compiled", f"{om}, brought")
    if not om.is_file():
        findings.miss(f"{om}: no such model; give OM=<file>, or OM= for that of make om")
    elif not Path(f"{om}.json").is_file():
        findings.miss(f"{om}.json: no record; write it by python -m atc.adopt --om {om}")


def exports(args: argparse.Namespace) -> bool:
    """Whether torch and the checkpoint are needed: for a model that is not there, or as the reference."""
    return args.reference == "torch" or not (args.om or (args.onnx and args.onnx.is_file()))


def run(args: argparse.Namespace) -> int:
    """Tell everything; return the exit code."""
    findings = Findings()
    findings.tell("python", f"{platform.python_version()} on {platform.machine()}, {sys.executable}")
    if sys.version_info < PYTHON:
        findings.miss(f"python: {platform.python_version()}, expected 3.9 or later; give PYTHON=")
    if args.make:
        findings.tell("make", args.make)
        if tuple(int(number) for number in re.findall("[0-9]+", args.make)[:2]) < MAKE:
            findings.miss(f"make: {args.make}, expected GNU make 4.2 or later")
    needed = {name for name, package in PACKAGES.items() if package.needed_by == CORE}
    needed |= {"torch"} if exports(args) or args.backend in BY_TORCH else set()
    needed |= {"safetensors"} if exports(args) and args.weights.suffix == ".safetensors" else set()
    needed |= {"openvino"} if args.backend == "openvino" else set()
    needed |= set() if args.prepared else {"simplejpeg", "opencv-python-headless"}
    needed |= {"opencv-python-headless", "pycocotools"} if args.passes else set()
    if args.om:  # nothing is left to compile
        needed -= {"onnx"} | ({"onnxruntime"} if args.om.suffix == ".om" else set())
    check_packages(findings, needed)
    check_tools(findings, args.backend, args.ais_python, args.soc, args.om)
    settings = sorted(args.settings.glob("*.mk")) if args.settings else []
    remembered = [file.read_text(encoding="utf-8").strip().replace(" := ", "=", 1) for file in settings]
    findings.tell("remembered", ", ".join(remembered) or "nothing")
    if args.om:
        check_brought(findings, args.om)
    check_model(findings, args)
    sys.stdout.flush()
    for line in findings.missing:
        print(f"make.doctor: missing: {line}", file=sys.stderr)
    if findings.missing:
        return 2
    print(f"{args.cfg.stem} can run as asked")
    return 0


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True, help="the model's YAML")
    parser.add_argument("--weights", type=Path, help="the checkpoint (default: weights/ and the config's name)")
    parser.add_argument(
        "--onnx", type=Path, help="the ONNX file, or the TorchScript one; if it is there nothing is exported"
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/imagenet"))
    parser.add_argument("--input", choices=INPUT_BYTES, default="float32", help="dtype of the inputs")
    parser.add_argument("--limit", type=int, default=0, help="only the first N images; 0: all")
    parser.add_argument("--reference", default="", help="torch: torch's own accuracy is asked for")
    parser.add_argument("--backend", choices=("auto", "ascend", "onnxruntime", "openvino", *BY_TORCH), default="auto")
    parser.add_argument("--ais_python", default="python3", help="the python that has ais_bench")
    parser.add_argument("--soc", default="Ascend310P3", help="the chip that is compiled for")
    parser.add_argument("--build", type=Path, default=Path("build"), help="where products go")
    parser.add_argument("--prep", type=Path, help="the inputs that may be there already")
    parser.add_argument("--prepared", action="store_true", help="--prep was brought: no data set is needed")
    parser.add_argument("--om", type=Path, help="a compiled model that was brought: nothing is compiled or exported")
    parser.add_argument("--passes", type=int, default=0, help="of pose: 2 with the flip test, else 1")
    parser.add_argument("--mirrored", action="store_true", help="mirrored inputs are written too")
    parser.add_argument("--chunk", type=int, default=0, help="images whose outputs are there at a time; 0: all")
    parser.add_argument("--settings", type=Path, help="folder of the remembered settings")
    parser.add_argument("--make", default="", help="the version of make")
    args = parser.parse_args(argv)
    args.weights = args.weights or Path("weights") / f"{args.cfg.stem}.pth"
    return args


def main(argv: Optional[list[str]] = None) -> int:
    return run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
