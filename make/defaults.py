"""The default values that depend on the task, the target and the ONNX file; standard library only."""

from __future__ import annotations

import re
from pathlib import Path

from hrnet import cann
from make.call import TORCH_BACKENDS, Options, note
from make.onnx_batch import fixed_batch
from make.remembered import SWEEPS, is_forgotten, used_names

SIZES = {"qps": "1,4,8,16,32,64", "family": "1,4,8", "serve": "1,2,4,8,16"}  # default of BATCHES


def set_defaults(options: Options) -> None:
    """Set defaults that depend on the task, and normalise values."""
    family = "family" in options.goals
    sizes = next((SIZES[goal] for goal in SIZES if goal in options.goals), "1,4,8,16,32")
    largest = max(re.findall("[1-9][0-9]*", options["BATCHES"] or sizes), key=int, default="1")
    batch, batches = ("1", "1") if options.pose else (largest if family else "16", sizes)
    if compiles_given_onnx(options) and (fixed := fixed_batch(Path(options["ONNX"]))):
        options.fixed_batch = fixed
        batch = batches = str(fixed)
        if unset := [f"{name}={fixed}" for name in used_sizes(options) if not options[name]]:
            note(f"{' '.join(unset)}: {options['ONNX']} has this fixed batch size")
    defaults = {
        "HOST": "127.0.0.1",
        "PORT": "8000",
        "DATASET": "" if family or "DATASET" in options.given else options.default("DATASET"),
        "BATCH": batch,
        "BATCHES": batches,
    }
    options.values.update({name: value for name, value in defaults.items() if not options[name]})
    for name in ("BATCHES", "MODELS"):
        options.values[name] = re.sub(r"\s*,\s*|\s+", ",", options[name].strip())
    options.values["PREP"] = options["PREP"].rstrip("/")
    options.values["ATC_FLAGS"] = " ".join(options["ATC_FLAGS"].split())
    chip = cann.chip_name(options["SOC"])
    if chip != options["SOC"]:
        note(f"SOC={options['SOC']}: using {chip}")
        options.values["SOC"] = chip


def compiles_given_onnx(options: Options) -> bool:
    """Whether this call compiles the file given as ONNX=, which make did not export."""
    other = options.pose or options.goals & {"family", "clean"} or options["BACKEND"] in TORCH_BACKENDS
    om = options["OM"] and not is_forgotten(options, "OM")
    return not other and not om and options.differs_from_default("ONNX") and not is_forgotten(options, "ONNX")


def used_sizes(options: Options) -> list[str]:
    """Which of BATCH and BATCHES this call uses."""
    return [*(["BATCH"] if "BATCH" in used_names(options) else []), *(["BATCHES"] if options.goals & SWEEPS else [])]


def check_fixed_batch(options: Options) -> None:
    """Raise OptionError for another batch size than the fixed one of the given ONNX file."""
    for name in used_sizes(options) if options.fixed_batch else ():
        if options[name] != str(options.fixed_batch):
            why = f"the batch size of {options['ONNX']} is fixed: {options.fixed_batch}"
            raise options.error(name, why, f"give {name}={options.fixed_batch}")
