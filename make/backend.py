"""Which backend a call of make means, and whether its files and tools are there; standard library only."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from hrnet import cann
from make.call import EXTENSIONS, TORCH, OptionError, Options
from make.checks import PATH

ON_DEVICE = {"infer", "eval", "part", "gate", "show", "bench", "doctor"}  # run ais_bench with BACKEND=ascend


def check_files(options: Options) -> None:
    """Check that given files exist and fit together. Raises OptionError for the first that does not."""
    for name in ("DATASET", "WEIGHTS", "ONNX", "TS", "OM", "PREP"):
        downloaded = name == "WEIGHTS" and "weights" in options.goals
        if name in options.given and options[name] and not downloaded and not Path(options[name]).exists():
            raise options.refuse(name, "no such file or directory")
    if options["PREP"] and not Path(options["PREP"], "manifest.json").is_file():
        raise options.refuse("PREP", "no manifest.json in it; expected a directory written by make preprocess")
    if options["REFERENCE"] not in ("", "torch", "onnx", "config") and not Path(options["REFERENCE"]).is_file():
        raise options.refuse("REFERENCE", "no such metrics file")
    dataset = Path(options["DATASET"])
    if dataset.name == "val" and dataset.is_dir() and not (dataset / "val").is_dir():
        raise options.refuse("DATASET", f"give the directory above it: DATASET={dataset.parent}")
    if "bundle" in options.goals and options["BUNDLE"] == "stage" and options["REFERENCE"] not in ("", "config"):
        raise options.refuse(
            "REFERENCE", "is measured on this machine's inputs; with BUNDLE=stage give REFERENCE= (the config's figure)"
        )


def resolve_backend(asked: str, model: str) -> tuple[str, str]:
    """The backend that BACKEND=`asked` means with OM=`model`, and why."""
    if asked != "auto":
        return asked, "as given"
    if model:
        by_file = {".om": "ascend", ".ts": "torchscript"}
        return by_file.get(Path(model).suffix, "onnxruntime"), f"auto: OM={model}"
    atc = shutil.which("atc")
    return ("ascend", "auto: atc is on PATH") if atc else ("onnxruntime", "auto: atc is not on PATH")


def check_backend(options: Options) -> None:
    """Check what the backend needs. Raises OptionError."""
    backend, model = options["BACKEND"], options["OM"]
    if backend == "ascend" and not (model or shutil.which("atc")):
        raise options.refuse("BACKEND", f"atc is not on PATH; {cann.source_set_env()}")
    for name in ("BUILD", "OM", "PREP") if backend == "ascend" and options.goals & ON_DEVICE else ():
        path = os.path.abspath(options[name] or ".")
        if options[name] and not re.fullmatch(PATH.pattern, path):
            raise options.refuse(name, f"ais_bench would reject {path}: expected {PATH.expected}")
    extension = EXTENSIONS.get(backend, ".onnx")
    if model and not model.endswith(extension):
        raise options.refuse("OM", f"BACKEND={backend} needs a {extension} file")
    if model and Path(model).exists() and not Path(f"{model}.json").is_file():
        if backend in TORCH:
            hint = f"make om OM= TS={model}"
        else:
            source = " --model <its ONNX file> --batch_size <its batch>" if model.endswith(".om") else ""
            hint = f"{options['PYTHON']} -m atc.adopt --om {model}{source}"
        raise OptionError(f"{model}.json is missing: it describes the model's inputs and outputs; write it by {hint}")
    if model and "qps" in options.goals:
        raise options.refuse("OM", "make qps compiles a model for each batch size; give OM=")
    if backend in TORCH and "bundle" in options.goals:
        raise options.refuse("BACKEND", "make bundle is for boards without torch")
    if backend not in (*TORCH, "ascend") and set(options["DEVICE"].split(",")) != {"0"}:
        raise options.refuse("DEVICE", f"BACKEND={backend} runs on one device; use DEVICE=0")
    if options["TUNE"] == "aoe" and not model and (backend != "ascend" or options["PRECISION"] != "default"):
        raise options.refuse("TUNE", "requires BACKEND=ascend and PRECISION=default")
    if options["TUNE"] == "aoe" and not model and (not cann.tunes_models(options["SOC"]) or options["ATC_FLAGS"]):
        chip = f"aoe does not tune models of A2 and A3 chips, such as {options['SOC']}"
        why = f"aoe takes no ATC_FLAGS={options['ATC_FLAGS']}" if options["ATC_FLAGS"] else chip
        raise options.refuse("TUNE", f"{why}; use TUNE=none")


def check_python(options: Options) -> None:
    if not shutil.which(options["PYTHON"]):
        raise options.refuse("PYTHON", "no such interpreter; run make setup first, or give PYTHON=")
