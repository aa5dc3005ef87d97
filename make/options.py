"""Check make's options, set the missing ones, and name the products.

    python3 -m make.options [--dry_run] --goals GOALS --overrides NAMES -- NAME:ORIGIN:VALUE ...

Called by make/resolve.mk, before a virtual environment exists: standard library only. For an invalid value it prints
one line to stdout and exits with 2; other errors of the same call are printed to stderr before. Otherwise it prints
`NAME:=value` words for make. If a given value differs from the remembered one, make/remembered.py writes it to
`<BUILD>/<MODEL>/settings/<NAME>.mk` as `NAME ?= value`. The Makefile reads these files, so a given value applies to
later calls too. The files are prerequisites of products, so a new value makes products out of date. STALE lists the
changed files; a dry run lists them and does not write them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import escape_output, first_few
from hrnet.hints import nearest
from hrnet.io.files import find_locked
from make.backend import check_backend, check_interpreter, check_python, resolve_backend
from make.call import (
    CONFIGS,
    NOT_REMEMBERED,
    Errors,
    OptionError,
    Options,
    note,
)
from make.changed import changed
from make.checks import CHECKS
from make.classifier import check_classifier, set_reference
from make.config import FAMILY, find_config, shipped
from make.defaults import check_fixed_batch, set_defaults
from make.files import check_files, missing_files
from make.ignored import made_models, note_default_model, report_ignored
from make.images import reject_chunk, set_shards
from make.products import product_names
from make.remembered import note_remembered, prefer_given, remember, remove_unread

TARGETS_HINT = "make help lists the targets"
HIDDEN_TARGETS = {"once"}  # not in make help
DEMOS = ("demo_digits", "demo_pose")
# Not printed: make already has these values, and splits the output at spaces, which IMAGES and ATC_FLAGS may contain
UNCHANGED = NOT_REMEMBERED - {"BATCHES", "MODELS", "HOST", "PORT"} | {"ATC_FLAGS"}
OTHER_VARIABLES = {"PEERS", "SLOW", "CLEAN"}  # used in make/project.mk, not passed to this script
# build/MODEL contains at least one of these (build/family: <BENCH>/rows); make clean rejects a directory without them
PRODUCTS = re.compile(
    r"settings|prep|om|out|eval|train|int8|predict|reference|gears\.yaml|\.?model\..*|\.settings_before.*"
)
ENVIRONMENT = {"RAY_ADDRESS", "HF_ENDPOINT"}  # read by scripts; make exports them if they are given after `make`


def set_models(options: Options) -> None:
    """Set and check MODELS of make family; default: all classifiers in configs/ except demos. Raises OptionError."""
    if options["MODEL"] != FAMILY or options["CFG"]:
        name = "CFG" if options["CFG"] else "MODEL"
        raise options.error(name, "make family compares several models", f"give MODELS={options[name]}")
    if others := options.goals - {"family"}:
        raise OptionError(f"make family {' '.join(sorted(others))}: not supported with other targets", "run it alone")
    for name in ("WEIGHTS", "ONNX", "TS", "OM", "PREP"):
        if name in options.given and options[name]:
            raise options.error(name, "not supported by make family, which uses weights/<MODEL>.pth of each model")
    texts = {name: (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8", errors="replace") for name in shipped()}
    known = [name for name, text in texts.items() if "pose_higher_hrnet" not in text]
    asked = re.split(r"[,\s]+", options["MODELS"].strip()) if options["MODELS"].strip() else []
    for name in asked:
        if name not in known:
            why = f"{name} is a pose model" if name in texts else f"no such config: {name}"
            near = nearest(name, known)
            hint = f"did you mean {near}? " if near else ""
            raise options.error("MODELS", why, f"{hint}expected names from {', '.join(known)}")
    default = [name for name in known if not name.startswith("demo_")]
    options.values["MODELS"] = ",".join(dict.fromkeys(asked or default))


def invalid_values(options: Options) -> dict[str, OptionError]:
    """The error of each variable whose value has the wrong format."""
    errors = {}
    optional = {"DATASET"} if "family" in options.goals else set()  # make family may measure speed only
    for name, check in CHECKS.items():
        if (options[name] or name not in optional) and not re.fullmatch(check.pattern, options[name]):
            errors[name] = options.format_error(name, check.expected)
    return errors


def check_task(options: Options) -> None:
    """Check whether the task supports the targets and values. Raises OptionError."""
    task = "pose" if options.pose else "classification"
    for goal in options.goals & ({"qps"} if options.pose else {"gears"}):
        raise OptionError(f"make {goal}: not available for {task} models such as {options['MODEL']}")
    if options.pose:
        for name in ("BATCH", "BATCHES"):
            if options[name] != "1":
                raise options.error(name, "expected 1: a pose model computes one image at a time")
    check_fixed_batch(options)
    if options["KEEP_FLOAT"] and "--keep_dtype" in options["ATC_FLAGS"].replace("-dtype", "_dtype"):
        raise options.error("KEEP_FLOAT", f"ATC_FLAGS={options['ATC_FLAGS']} also has a list; give one of them")
    if options["BACKEND"] == "openvino" and options["PRECISION"] == "fp16":
        raise options.error("PRECISION", "OpenVINO would compute in float32", "use BACKEND=onnxruntime")


def targets() -> list[str]:
    """The targets that make help lists."""
    here = Path(__file__).resolve().parent
    text = "".join(path.read_text(encoding="utf-8") for path in (here.parent / "Makefile", here / "project.mk"))
    return re.findall(r"^([a-z-]+):[^#\n]*##", text, re.MULTILINE)


def unknown_target(name: str) -> OptionError:
    known = targets()
    near = next((each for each in known if len(each) > 3 and name.startswith(each)), None) or nearest(name, known)
    sign = "\uff1d"  # fullwidth =, which a Chinese input method writes
    hint = f"write = instead of {sign}: {name.replace(sign, '=')}" if sign in name else TARGETS_HINT
    if name in CHECKS or name == "MODEL":
        near, hint = None, f"for a variable write {name}=<value>"
    elif name in shipped():
        near = f"MODEL={name}"
    return OptionError(f"{name}: no such target or file", f"did you mean {near}?" if near else hint)


def unknown_demo(name: str) -> OptionError:
    near = nearest(name, DEMOS)
    return OptionError(
        f"MODEL={name}: not a demo (expected {' or '.join(DEMOS)})", f"did you mean {near}?" if near else None
    )


def unknown_words(options: Options, overrides: set[str]) -> Errors:
    """Errors for variables on the command line that do not exist, and for words that are neither a target nor a
    product. make itself would report such a word only after it made the targets before it."""
    errors, known = Errors(), set(options.values) | OTHER_VARIABLES | ENVIRONMENT
    for name in sorted(overrides - known):
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else "make help lists the variables"
        errors.append(OptionError(f"{name}: no such variable", hint))
    for goal in sorted(options.goals - set(targets()) - HIDDEN_TARGETS):
        product = goal.startswith(f"{options['BUILD']}/") and goal.isascii()
        if not product and not Path(goal).exists():
            errors.append(unknown_target(goal))
    return errors


def check_call(options: Options, overrides: set[str]) -> None:
    """Check names and formats, find the config, and set the defaults. Raises OptionError with all errors."""
    errors = unknown_words(options, overrides)
    with errors.collected():
        if "family" in options.goals:
            set_models(options)
        elif options.goals != {"clean"} or options["MODEL"] != FAMILY:
            find_config(options)
    set_defaults(options)
    invalid = invalid_values(options)
    errors += [error for name, error in invalid.items() if name in options.given and (name != "CFG" or not errors)]
    if errors:
        errors += missing_files(options, options.given - set(invalid))
    else:
        errors += invalid.values()  # for defaults that contain BUILD or MODEL, and for remembered values
    errors.throw()


def resolve(options: Options, overrides: set[str], dry_run: bool) -> dict[str, str]:
    """Check and complete the options, and remember the given values unless `dry_run`. Returns the variables for make;
    {} for make clean. Raises OptionError."""
    check_call(options, overrides)
    given = {name: options[name] for name in options.given - NOT_REMEMBERED if name in CHECKS}
    reject_chunk(options)
    check_task(options)
    if "clean" not in options.goals:
        note_default_model(options)
    set_shards(options)
    remembered = options.remembered()
    if "clean" in options.goals:
        if others := options.goals - {"clean"}:
            raise OptionError(
                f"make clean {' '.join(sorted(others))}: not supported with other targets", "run it alone"
            )
        if locked := find_locked(options.folder):
            what = f"make clean: {locked[0]} is locked by {locked[1] or 'another run'}"
            raise OptionError(what, "wait until it ends")
        present = os.listdir(options.folder) if options.folder.is_dir() else []
        family = options["MODEL"] == FAMILY and any(options.folder.glob("*/rows"))
        if present and not family and not any(map(PRODUCTS.fullmatch, present)):
            what = f"make clean: no stage has written {options.folder}"
            hint = "remove it yourself, or give BUILD=<the directory of the products>"
            raise OptionError(f"{what} (found {first_few(sorted(present))})", hint)
        if not present:
            made = f"; found {first_few(made_models(options), 9)}" if made_models(options) else ""
            note(f"make clean: there are no products of MODEL={options['MODEL']} in {options.folder}{made}")
        if remembered:
            again = f"; give CFG={remembered['CFG']} again in the next call" if "CFG" in remembered else ""
            note(f"forgotten: {' '.join(f'{name}={value}' for name, value in remembered.items())}{again}")
        return {}
    backend_asked = options["BACKEND"]
    reset = prefer_given(options)
    remembered = {name: value for name, value in remembered.items() if name not in reset}
    given = {} if options.goals & {"part", "once"} else {**given, **reset}
    options.values["BACKEND"], why = resolve_backend(backend_asked, options["OM"])
    set_reference(options)
    if "doctor" not in options.goals:
        check_files(options, dry_run)
        check_classifier(options)
        check_backend(options)
        if not dry_run:
            check_python(options)
        unused = report_ignored(options)
        given = {name: value for name, value in given.items() if name not in unused}
        note_remembered(options, remembered)
        if backend_asked == "auto":
            note(f"BACKEND=auto: using {options['BACKEND']} ({why.partition(': ')[2]})")
    elif not dry_run:
        check_interpreter(options)
    writes = not dry_run and "doctor" not in options.goals
    if writes:
        remove_unread(options)
    stale, before = remember(options, given, not writes)
    names = product_names(options)
    words = {name: value for name, value in options.values.items() if name not in UNCHANGED}
    names.update(changed(options, names))
    return {**words, **names, "BACKEND_ASKED": backend_asked, "STALE": ",".join(stale), "SETTINGS_BEFORE": before}


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make.options", description=__doc__.splitlines()[0])
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--goals", default="")
    parser.add_argument("--overrides", default="", help="names of the variables on make's command line")
    parser.add_argument("--unknown", help="a target or file that make has no rule for")
    parser.add_argument("--unknown_demo", metavar="MODEL", help="a MODEL that make demo does not have")
    parser.add_argument("options", nargs="*", help="NAME:ORIGIN:VALUE of each option")
    return parser.parse_args(argv)


def main(argv: Optional[list[str]] = None) -> int:
    escape_output()
    args = parse_args(argv)
    if args.unknown_demo is not None:
        print(unknown_demo(args.unknown_demo))
        return 2
    if args.unknown:
        note(str(unknown_target(args.unknown)))
        return 2
    parts = [option.split(":", 2) for option in args.options]
    values = {name: value for name, _, value in parts}
    given = {name for name, origin, _ in parts if origin in ("command", "environment")}
    options = Options(values, given, set(args.goals.split()))
    try:
        words = resolve(options, set(args.overrides.split()), args.dry_run)
    except OptionError as error:
        *earlier, last = (str(each.complete(options.values)) for each in (*error.earlier, error))
        for line in earlier:
            note(line)  # make's $(error) prints one line
        print(last)
        return 2
    print(*(f"{name}:={value}" for name, value in words.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
