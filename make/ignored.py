"""Report values of a call of make that have no effect, and the default model; standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.cli import first_few
from make.call import TORCH_BACKENDS, Options, float_operators, note
from make.checks import CHECKS
from make.remembered import READ_BY


def note_default_model(options: Options) -> None:
    """Report that MODEL is the default, if a file for it is given now or nothing was made for it."""
    chosen = options.given & {"MODEL", "CFG"} or options["MODELS"] or Path("bundle.mk").is_file()
    made_before = any(names for _, _, names in os.walk(options.folder))  # a failed call leaves empty directories
    if chosen or (made_before and not options.given & {"WEIGHTS", "ONNX", "TS", "OM"}):
        return
    known = made_models(options)
    made = f" (in {options['BUILD']}: {first_few(known)})" if known else ""
    note(f"MODEL={options['MODEL']} is the default: for another model give MODEL= or CFG={made}")


def made_models(options: Options) -> list[str]:
    """The words for make that select each model with remembered values in BUILD, also those of make demo."""
    build = Path(options["BUILD"])
    known = [f"MODEL={path.parent.name}" for path in sorted(build.glob("*/settings"))]
    return known + [f"MODEL={path.parts[-2]} BUILD={path.parent.parent}" for path in sorted(build.glob("*/*/settings"))]


def ignore_weights(options: Options) -> None:
    """Ignore a given or remembered WEIGHTS for a model that is an ONNX file; report a given one."""
    if "WEIGHTS" in options.given and options["WEIGHTS"]:
        note(f"WEIGHTS={options['WEIGHTS']} is ignored: the weights of {options['MODEL']} are in its ONNX file")
    options.given.discard("WEIGHTS")
    options.values["WEIGHTS"] = options.default("WEIGHTS")


def report_ignored(options: Options) -> None:
    """Report given values that have no effect, and an INPUT that OM and PREP make ineffective, also if remembered."""
    if options.goals in ({"train"}, {"gears"}):
        (goal,) = options.goals
        for name in sorted(options.given & set(CHECKS) - READ_BY[goal] - {"BUILD", "PYTHON"}):
            if options[name]:
                note(f"{name}={options[name]} is ignored: make {goal} uses only {' and '.join(sorted(READ_BY[goal]))}")
        return
    ignored = {
        "OM": ("WEIGHTS", "ONNX", "TS", "BATCH", "PRECISION", "SOC", "TUNE", "ATC_FLAGS"),
        "PREP": ("LIMIT", "MAX_REJECTED"),
    }
    source = "TS" if options["BACKEND"] in TORCH_BACKENDS else "ONNX"
    own_source = options.differs_from_default(source)
    if own_source and not (options["OM"] or options.onnx or options["REFERENCE"] == "torch"):
        ignored[source] = ("WEIGHTS",)
    for name, others in ignored.items():
        for other in others:
            measured = other == "ONNX" and (options.onnx or options["REFERENCE"] == "onnx")
            if options[name] and other in options.given and not measured:
                note(f"{other}={options[other]} is ignored because {name}={options[name]} is set")
    if options["ATC_FLAGS"] and options["BACKEND"] in TORCH_BACKENDS:
        note(f"ATC_FLAGS={options['ATC_FLAGS']} is ignored: BACKEND={options['BACKEND']} does not run atc")
    if options["KEEP_FLOAT"] and not float_operators(options)[0]:
        note(f"KEEP_FLOAT={options['KEEP_FLOAT']} is ignored: this call compiles no model in fp16 or int8")
    if options.goals == {"predict"}:
        for name in ("DATASET", "LIMIT", "PREP", "SHARDS"):
            if name in options.given and options[name]:
                note(f"{name}={options[name]} is ignored: make predict reads IMAGES")
    elif options["IMAGES"] and "predict" not in options.goals:
        note("IMAGES is ignored: only make predict uses it")
    for name in ("DEVICE", "KEEP", "SHARD") if "cluster" in options.goals else ():
        if name in options.given:
            note(f"{name}={options[name]} is ignored: make cluster computes all parts on the nodes of the cluster")
    if options["MODELS"] and not options.goals & {"family", "report"}:
        note(f"MODELS={options['MODELS']} is ignored: only make family and make report use it")
    if options["BASE"] and ("report" not in options.goals or options["MODELS"]):
        note("BASE is ignored: only make report of one model uses it")
    for name in {"HOST", "PORT"} & options.given if "serve" not in options.goals else ():
        note(f"{name}={options[name]} is ignored: only make serve uses it")
    if not options.pose and "FLIP" in options.given:
        note(f"FLIP={options['FLIP']} is ignored: only pose models have a flip test")
    if options["OM"] and options["PREP"] and "INPUT" in options.given | set(options.remembered()):
        note(f"INPUT={options['INPUT']} is ignored because OM={options['OM']} and PREP={options['PREP']} are set")
