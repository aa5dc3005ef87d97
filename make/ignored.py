"""Report values of a call of make that have no effect, and the default model; standard library only."""

from __future__ import annotations

import os
from pathlib import Path

import hrnet
from hrnet.cli import first_few
from make import bundle_help
from make.call import NOT_REMEMBERED, TORCH_BACKENDS, Options, float_operators, note
from make.checks import CHECKS
from make.remembered import EVALUATION, READ_BY, SWEEPS, used_names

# Variables without effect if OM is set, unless `used_names` has them
BEFORE_OM = ("WEIGHTS", "ONNX", "TS", "BATCH", "BATCHES", "PRECISION", "SOC", "TUNE", "ATC_FLAGS")
READERS = {  # the only targets that use a variable
    "IMAGES": {"predict"},
    "MODELS": {"family", "report"},
    "BASE": {"report"},
    "HOST": {"serve"},
    "PORT": {"serve"},
    "BATCHES": SWEEPS,
}


def note_default_model(options: Options) -> None:
    """Report that MODEL is the default, if a file for it is given now or nothing was made for it."""
    chosen = options.given & {"MODEL", "CFG"} or options["MODELS"] or Path("bundle.mk").is_file()
    made_before = any(names for _, _, names in os.walk(options.folder))  # a failed call leaves empty directories
    if chosen or (made_before and not options.given & {"WEIGHTS", "ONNX", "TS", "OM"}):
        return
    known = made_models(options)
    made = f" (models in {options['BUILD']}: {first_few(known)})" if known else ""
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


def report_ignored(options: Options) -> set[str]:
    """Report given values that have no effect in this call. Returns the variables: make does not remember them."""
    found = {name: why for name, why in ignored(options).items() if options[name]}
    for name, why in found.items():
        note(f"{name}={options[name]} is ignored{why}")
    return set(found)


def ignored(options: Options) -> dict[str, str]:
    """Variables whose given value has no effect in this call -> why, as the end of a sentence."""
    goals, given, used = options.goals, options.given, used_names(options)
    if goals in ({"train"}, {"gears"}):
        (goal,) = goals
        names = sorted(given & set(CHECKS) - READ_BY[goal] - {"BUILD", "PYTHON"})
        return dict.fromkeys(names, f": make {goal} uses only {' and '.join(sorted(READ_BY[goal]))}")
    found: dict[str, str] = {}
    hiding = {"OM": BEFORE_OM, "PREP": ("LIMIT", *(() if "CALIB" in used else ("MAX_REJECTED",)))}
    hiding = {name: hidden for name, hidden in hiding.items() if options[name]}
    source = "TS" if options["BACKEND"] in TORCH_BACKENDS else "ONNX"
    if options.differs_from_default(source) and not options.onnx:
        hiding[source] = ("WEIGHTS",)
    for name, hidden in hiding.items():
        for other in hidden:
            if other in given and other not in used:
                found.setdefault(other, f" because {name}={options[name]} is set")
    other = "ONNX" if source == "TS" else "TS"
    if other in given - used and any(other in READ_BY.get(goal, EVALUATION) for goal in goals):
        found.setdefault(other, f": BACKEND={options['BACKEND']} uses {source}")
    if "FLIP" in given and not options.pose:
        found["FLIP"] = ": only pose models have a flip test"
    if options["OM"] and options["PREP"] and "INPUT" in given | set(options.remembered()):
        found["INPUT"] = f" because OM={options['OM']} and PREP={options['PREP']} are set"
    if options["ATC_FLAGS"] and options["BACKEND"] in TORCH_BACKENDS:
        found["ATC_FLAGS"] = f": BACKEND={options['BACKEND']} does not run atc"
    if options["KEEP_FLOAT"] and not float_operators(options)[0]:
        found["KEEP_FLOAT"] = ": this call compiles no model in fp16 or int8"
    if goals == {"predict"}:
        others = given & {"DATASET", "LIMIT", "PREP", "SHARDS"} - used
        found.update(dict.fromkeys(sorted(others), ": make predict reads IMAGES"))
    if "cluster" in goals:
        why = ": make cluster computes all parts on the nodes of the cluster"
        found.update(dict.fromkeys(sorted(given & {"DEVICE", "KEEP", "SHARD"}), why))
    for name, readers in READERS.items():
        if name in given and not goals & readers:
            makes = ", ".join(f"make {goal}" for goal in sorted(readers))
            found.setdefault(name, f": only {makes} {'use' if len(readers) > 1 else 'uses'} it")
    if "BASE" in given and options["MODELS"]:
        found["BASE"] = ": only make report of one model uses it"
    if "BATCH" in given and goals <= {"bench", "qps"}:
        found["BATCH"] = f": make {' and make '.join(sorted(goals))} {'use' if len(goals) > 1 else 'uses'} BATCHES"
    if hrnet.BOARD:
        here = bundle_help.variables(not options["PREP"], options.pose) | {"CFG", "INPUT"}
        for name in sorted(given & set(CHECKS) - here):
            found.setdefault(name, ": nothing in this bundle uses it")
    if not any("/" in goal for goal in goals):  # a target that is a file, such as build/…/model.onnx, may read any
        why = f": make {' and make '.join(sorted(goals))} {'do' if len(goals) > 1 else 'does'} not use it"
        for name in sorted(given & set(CHECKS) - NOT_REMEMBERED - used):
            found.setdefault(name, why)
    return found
