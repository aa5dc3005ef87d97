"""Choose the backend, and check the files and tools that it needs; standard library only."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import hrnet
from hrnet import cann
from hrnet.cli import first_few
from hrnet.hints import install
from make.call import EXTENSIONS, NPU_BACKENDS, TORCH_BACKENDS, OptionError, Options
from make.checks import PATH

SHOWN = 6  # chips named in an error
# Targets that run ais_bench if BACKEND=ascend, and doctor, which checks the paths for it
ON_DEVICE = {
    "infer",
    "eval",
    "part",
    "gate",
    "show",
    "predict",
    "serve",
    "bench",
    "qps",
    "compare",
    "family",
    "doctor",
}
# Before these targets run, check_python imports the package of BACKEND
COMPUTING = ON_DEVICE - {"gate", "show", "doctor"}
# {backend: its package}; the extra of pyproject.toml with this package has the same name
PACKAGE_OF = {"openvino": "openvino", "torchscript": "torch"}


def resolve_backend(asked: str, model: str) -> tuple[str, str]:
    """The backend for BACKEND=`asked` and OM=`model`, and the reason."""
    if asked != "auto":
        return asked, "as given"
    if model:
        by_file = {".om": "ascend", ".ts": "torchscript"}
        return by_file.get(Path(model).suffix, "onnxruntime"), f"auto: OM={model}"
    atc = shutil.which("atc")
    return ("ascend", "auto: atc is on PATH") if atc else ("onnxruntime", "auto: atc is not on PATH")


def check_chip_name(options: Options) -> None:
    """Raise OptionError if SOC is only the first part of a chip's name, or a misspelt name. With an NPU backend, a name
    that looks misspelt is not an error: CANN's tools may know more chips."""
    chip = options["SOC"]
    if names := cann.longer_names(chip):
        why = f"not a complete chip name; these begin with it: {first_few(names, SHOWN)}"
    elif options["BACKEND"] not in NPU_BACKENDS and (names := cann.similar_names(chip)):
        newer = "for a newer chip use BACKEND=ascend with a CANN that supports it"
        why = f"not a known chip, but similar to {first_few(names, SHOWN)} ({newer})"
    else:
        return
    raise options.error("SOC", why, f"give SOC={names[0]}")


def check_backend(options: Options) -> None:
    """Check the requirements of the backend. Raises OptionError."""
    if not options["OM"]:
        check_chip_name(options)
    backend, model = options["BACKEND"], options["OM"]
    int8 = "quantize" in options.goals or options["PRECISION"].startswith("int8")
    if backend == "ascend" and options.pose and int8:
        given, other = (
            ("make quantize", "") if "quantize" in options.goals else ("PRECISION=int8", "PRECISION=fp16, or ")
        )
        hint = f"use {other}BACKEND=onnxruntime to estimate the loss of accuracy"
        raise OptionError(f"{given}: {options['MODEL']} has gears, which amct_onnx does not support", hint)
    if backend == "ascend" and not (model or shutil.which("atc")):
        raise options.error("BACKEND", "atc is not on PATH", cann.source_set_env())
    for name in ("BUILD", "OM", "PREP") if backend == "ascend" and options.goals & ON_DEVICE else ():
        path = os.path.abspath(options[name] or ".")
        if options[name] and not re.fullmatch(PATH.pattern, path):
            raise options.error(name, f"ais_bench would reject {path}: expected {PATH.expected}")
    extension = EXTENSIONS.get(backend, ".onnx")
    if model and not model.endswith(extension):
        hint = "give BACKEND=auto" if Path(model).suffix in (".om", ".onnx", ".ts") else f"give OM=<file>{extension}"
        raise options.error("OM", f"BACKEND={backend} needs a {extension} file", hint)
    if model and Path(model).exists() and not Path(f"{model}.json").is_file():
        if backend in TORCH_BACKENDS:
            hint = f"if it is an exported TorchScript file, compile it: make om OM= BACKEND={backend} TS={model}"
        else:
            source = " --model <its ONNX file> --batch_size <its batch>" if model.endswith(".om") else ""
            hint = f"write it: {options['PYTHON']} -m atc.adopt --om {model}{source}"
        raise OptionError(f"{model}.json is missing: it describes the model's inputs and outputs", hint)
    for goal in sorted(options.goals & {"bench", "qps"}) if model else ():
        raise options.error(
            "OM", f"make {goal} compiles a model for each batch size", "to compile them, give an empty OM="
        )
    if backend in TORCH_BACKENDS and int8:
        raise options.error("BACKEND", "int8 needs an ONNX file", "use onnxruntime, openvino or ascend")
    if backend == "ascend" and options["PRECISION"].startswith("int8-"):
        raise options.error("PRECISION", "amct_onnx chooses the ranges itself", "use PRECISION=int8")
    if backend in TORCH_BACKENDS and "bundle" in options.goals:
        raise options.error("BACKEND", "not supported by make bundle, which is for boards without torch")
    if backend not in (*TORCH_BACKENDS, "ascend") and set(options["DEVICE"].split(",")) != {"0"}:
        raise options.error("DEVICE", f"BACKEND={backend} runs on one device", "use DEVICE=0")
    if options["TUNE"] == "aoe" and not model and (backend != "ascend" or options["PRECISION"] != "default"):
        raise options.error("TUNE", "requires BACKEND=ascend and PRECISION=default")
    if options["TUNE"] == "aoe" and not model and (not cann.tunes_models(options["SOC"]) or options["ATC_FLAGS"]):
        chip = f"aoe does not support A2 and A3 chips such as {options['SOC']}"
        why = f"aoe does not support ATC_FLAGS={options['ATC_FLAGS']}" if options["ATC_FLAGS"] else chip
        raise options.error("TUNE", why, "use TUNE=none")


def check_interpreter(options: Options) -> None:
    """Check that PYTHON exists. Raises OptionError."""
    if not shutil.which(options["PYTHON"]):
        hint = "give PYTHON=python3" if hrnet.BOARD else "run make setup first, or give PYTHON=<interpreter>"
        raise options.error("PYTHON", "no such interpreter", hint)


def check_python(options: Options) -> None:
    """Check that PYTHON exists, and that it can import the package of BACKEND. Raises OptionError."""
    check_interpreter(options)
    python = options["PYTHON"]
    package = PACKAGE_OF.get(options["BACKEND"], "")
    new = options.stored().get("BACKEND") != options["BACKEND"]  # later calls need not import it again
    if package and new and options.goals & COMPUTING:
        # Imported here, since most calls do not need it
        import subprocess

        done = subprocess.run([python, "-c", f"import {package}"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode:
            why = f"{python} cannot import {package} (exit {done.returncode})"
            raise options.error("BACKEND", why, install(package, package, python))
