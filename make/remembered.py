"""The values that a call of make remembers for later calls, forgets, and uses again; standard library only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from make.call import TORCH_BACKENDS, OptionError, Options, float_operators, note

BEFORE = ".settings_before."  # start of a directory's name; the rest is the process id of make

# {variable: the variables that override it}; prefer_given resets these if they are only remembered
HIDDEN_BY = {"WEIGHTS": ("ONNX", "TS", "OM"), "ONNX": ("OM",), "TS": ("OM",)}
# The variables that a target reads
NETWORK, SOURCES = {"CFG", "WEIGHTS"}, {"CFG", "WEIGHTS", "ONNX", "TS"}
COMPILER = {"BATCH", "PRECISION", "KEEP_FLOAT", "SOC", "TUNE", "ATC_FLAGS"}
MODEL = SOURCES | COMPILER | {"OM", "INPUT", "BACKEND"}
RUN = MODEL | {"DEVICE", "AIS_PYTHON"}
SWEEPS = {"bench", "qps", "family", "serve"}  # targets for several batch sizes, BATCHES
DATA = {"CFG", "DATASET", "LIMIT", "PREP", "INPUT", "BACKEND", "FLIP", "SHARDS"}
READ_BY = {
    "train": {"CFG", "DATASET"},
    "gears": {"CFG", "DATASET"},
    "weights": NETWORK,
    "onnx": SOURCES,
    "torchscript": SOURCES,
    "quantize": SOURCES | {"DATASET", "CALIB", "KEEP_FLOAT", "PRECISION", "BACKEND"},
    "om": MODEL,
    "preprocess": DATA,
    "infer": RUN | DATA,
    "bench": RUN - {"BATCH"} | {"LOOP"},
    "predict": RUN | {"FLIP", "DATASET", "PREP"},  # DATASET and PREP: for the names of classes
}
EVALUATION = RUN | DATA | {"REFERENCE"}  # read by all other targets
READ_BY["qps"] = EVALUATION - {"BATCH"}
READ_BY["bundle"] = EVALUATION | {"BUNDLE"}
READ_BY["serve"] = EVALUATION - {"REFERENCE"}
READ_BY["reference"] = EVALUATION - COMPILER - {"AIS_PYTHON"}
# Set by make/precision.py for each row; AIS_PYTHON has no effect, since no row runs ais_bench
OF_ROWS = {"PRECISION", "KEEP_FLOAT", "TUNE", "OM", "BACKEND", "DEVICE", "AIS_PYTHON"}
READ_BY["precision"] = EVALUATION - OF_ROWS | {"CALIB"}
READ_BY["family"] = RUN - SOURCES - {"OM"} | {"DATASET", "LIMIT", "SHARDS", "LOOP"}


def used_names(options: Options) -> set[str]:
    """The variables whose values this call uses."""
    names: set[str] = set()
    for goal in options.goals:
        names |= READ_BY.get(goal, EVALUATION)
    kept = {"CFG", *({"ONNX"} if options.onnx else ())}  # atc.classifier reads the ONNX file for the config
    if "REFERENCE" in names:
        kept |= {{"torch": "WEIGHTS", "onnx": "ONNX"}.get(options["REFERENCE"], "")}
    source = "TS" if options["BACKEND"] in TORCH_BACKENDS else "ONNX"
    if options["OM"] and "OM" in names:
        names -= SOURCES - kept | COMPILER
    elif options.differs_from_default(source) and not options.goals & {"weights", "reference"}:
        names -= {"WEIGHTS"} - kept
    if not options.goals & {"onnx", "torchscript"}:
        names -= {"ONNX"} - kept if source == "TS" else {"TS"}
    if options["PREP"]:
        names.discard("LIMIT")
    if not options.pose:
        names.discard("FLIP")
    searched = options["KEEP_FLOAT"] == "auto" and float_operators(options)[0]
    if "PRECISION" in names and (searched or options["PRECISION"].startswith("int8")):
        names |= {"DATASET", "CALIB"}
    return names


def note_remembered(options: Options, remembered: dict[str, str]) -> None:
    """Report the remembered values that this call uses."""
    names = used_names(options)
    values = " ".join(f"{name}={value}" for name, value in remembered.items() if name in names)
    if values:
        note(f"{options['MODEL']}: using values remembered in {options.settings}: {values}")


def is_forgotten(options: Options, name: str) -> bool:
    """Whether prefer_given resets the remembered value of `name`, since it would hide a given value."""
    hidden = (other for other, others in HIDDEN_BY.items() if name in others)
    return name not in options.given and any(other in options.given and options[other] for other in hidden)


def prefer_given(options: Options) -> dict[str, str]:
    """Reset remembered values that would hide a value of this call, or that belong to another data set: a value given
    now has priority. Returns the values to remember instead."""
    reset = {}
    remembered = options.remembered()
    for name, others in HIDDEN_BY.items():
        if name not in options.given or not options[name]:
            continue
        for other in others:
            default = "" if other == "OM" else options.default(other)
            if remembered.get(other, default) != default:
                note(f"{other}={options[other]} is forgotten, because {name}={options[name]} is given now")
                options.values[other] = reset[other] = default
    if remembered.get("REFERENCE", "torch") not in ("torch", "onnx"):  # these two are measured on the same images
        before = options.stored()
        for name in ("DATASET", "PREP"):
            old = before.get(name) or options.default(name)
            if name in options.given and os.path.normpath(options[name]) != os.path.normpath(old):
                instead = f" instead of {old}" if old else ""
                new = f"{name}={options[name]} is given now{instead}"
                note(f"REFERENCE={options['REFERENCE']} is forgotten, because {new}")
                options.values["REFERENCE"] = reset["REFERENCE"] = ""
                break
    return reset


def remember(options: Options, given: dict[str, str], dry_run: bool) -> tuple[list[str], str]:
    """Write the given values that changed. Returns their files, and the directory with the old files, which the first
    stage restores if it rejects the values (hrnet/given.py); "" if nothing was written. Raises OptionError if a file
    cannot be written."""
    before = None
    if not dry_run:
        remove_backups_of_killed(options.folder)
    texts = {options.settings / f"{name}.mk": f"{name} ?= {value}\n" for name, value in sorted(given.items())}
    texts = {path: text for path, text in texts.items() if not _holds(path, text)}
    if not dry_run and texts:
        path = next(iter(texts))
        try:
            os.umask(0o027)
            path.parent.mkdir(parents=True, exist_ok=True)
            before = options.folder / f"{BEFORE}{os.getppid()}"  # the id of make
            shutil.rmtree(before, ignore_errors=True)  # from a killed call that had the same process id
            before.mkdir()
            for path, text in texts.items():
                _replace(path, text, before / path.name)
        except OSError as error:
            raise options.error("BUILD", f"{path} cannot be written: {error.strerror}") from None
    return [str(path) for path in texts], str(before or "")


def remove_backups_of_killed(folder: Path) -> None:
    """Remove the directories SETTINGS_BEFORE of calls that were killed."""
    for path in folder.glob(f"{BEFORE}[0-9]*"):
        if not _is_running(int(path.name.removeprefix(BEFORE))):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def _replace(path: Path, text: str, before: Path) -> None:
    """Write a copy of the old file and one of the new file, then replace the file atomically. `before`: the copy of the
    old file, empty if there is none; with the suffix `.given`: the copy of the new file."""
    if path.is_file():
        shutil.copy2(path, before)
    else:
        before.touch()
    before.with_suffix(".given").write_text(text, encoding="utf-8")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def remove_unread(options: Options) -> None:
    """Remove the files of variables that make no longer remembers: older versions wrote GATE, MAX_REJECTED and, for an
    ONNX file, WEIGHTS."""
    for path in sorted(options.settings.glob("*.mk")):
        if path.stem in options.not_remembered:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OptionError(f"{path}: cannot be removed: {error.strerror}") from None
            note(f"{path}: removed, because make no longer remembers {path.stem}")
