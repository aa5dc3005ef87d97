"""Options of a model that is an ONNX classifier (config: `MODEL: {NAME: onnx}`); standard library only.

Such a config is completed with values from its ONNX file: CFG becomes `<BUILD>/<MODEL>/<MODEL>.yaml`, which
atc.classifier writes.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import hrnet
from make.call import TORCH_BACKENDS, OptionError, Options, note

JUDGING = {"eval", "gate", "merge", "cluster"}  # targets that print a verdict
FIGURES = ("TOP1", "TOP5", "AP")  # keys of the config's section REFERENCE: published accuracy
NETWORK_GOALS = ("train", "weights", "torchscript", "gears")  # need a network of hrnet/nets


def read_kind(options: Options, config: str) -> None:
    """Read from the text of a config whether its model is an ONNX file, and whether figures and a checkpoint are
    published."""
    text = without_comments(config)
    options.onnx = "onnx" in values_of("NAME", text)
    options.published = any(is_above_zero(value) for key in FIGURES for value in values_of(key, text))
    options.downloadable = any(values_of("URL", text))


def without_comments(config: str) -> str:
    return re.sub(r"(^|\s)#.*", "", config)


def values_of(key: str, text: str) -> list[str]:
    """The values of a key in YAML text, in any section; key and value may be in quotes."""
    return [value for _, value in re.findall(rf"\b{key}[\"']?\s*:[ \t]*([\"']?)([^\s\"',}}]*)", text)]


def is_above_zero(value: str) -> bool:
    """Whether it is a number above 0. A value that is not a number is reported later, by `hrnet.config`."""
    with contextlib.suppress(ValueError):
        return float(value) > 0
    return False


def completed(options: Options) -> str:
    """The config that the stages read."""
    path = options.folder / f"{options['MODEL']}.yaml"
    known = Path(options["ONNX"]).is_file() and Path(options["CFG"]).resolve() != path.resolve()
    return str(path) if options.onnx and known else options["CFG"]


def check_classifier(options: Options) -> None:
    """Check REFERENCE; for a model that is an ONNX file, check that the file exists and that no target or value
    needs a network of hrnet/nets. Raises OptionError."""
    model, given = options["MODEL"], options.differs_from_default("ONNX")
    if options["REFERENCE"] == "onnx" and options.pose:
        raise options.error("REFERENCE", "only for classification models", "give REFERENCE=torch")
    judged = options.goals & JUDGING and options["GATE"] != "none" and not hrnet.BOARD
    if options["REFERENCE"] == "config" and not options.published and judged:
        own = "onnx" if options.onnx else "torch"
        hint = f"give REFERENCE={own}, or GATE=none to accept NOT JUDGED"
        raise options.error("REFERENCE", "the config has no published figure to compare with", hint)
    if not options.onnx:
        return
    for goal in sorted(options.goals & set(NETWORK_GOALS)):
        raise OptionError(f"make {goal}: {model} is an ONNX file, not a network of this project (MODEL.NAME: onnx)")
    if options["BACKEND"] in TORCH_BACKENDS:
        raise options.error("BACKEND", f"{model} is an ONNX file", "use onnxruntime, openvino or ascend")
    if options["REFERENCE"] == "torch":
        raise options.error("REFERENCE", f"{model} has no network of this project", "give REFERENCE=onnx")
    if given and not Path(options["ONNX"]).is_file():
        raise options.error("ONNX", "no such file")
    if not given and (not options["OM"] or options["REFERENCE"] == "onnx"):
        raise OptionError(f"MODEL={model}: its config is for an ONNX file (MODEL.NAME: onnx)", "give ONNX=<file>")


def set_reference(options: Options) -> None:
    """Set REFERENCE=onnx if an ONNX file is given and the config has no published figure."""
    given = options.differs_from_default("ONNX") or options.onnx
    board = "bundle" in options.goals and options["BUNDLE"] == "stage"  # the board evaluates its own images
    if board and options["REFERENCE"] in ("", "config") and not options.published:
        kind = "onnx" if options.onnx else "torch"
        hint = f"for a verdict, give REFERENCE={kind} and the DATASET that the board will evaluate"
        note(f"BUNDLE=stage: the board will not judge its result, since the config has no published figure; {hint}")
    if options["REFERENCE"] or options.pose or options.published or board or not given:
        return
    if Path(options["ONNX"]).is_file():
        options.values["REFERENCE"] = "onnx"
        if options.goals & JUDGING:
            note(f"REFERENCE=onnx: comparing with {options['ONNX']} in float32, as the config has no published figure")
