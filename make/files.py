"""Check the files of a call of make before its first stage runs; standard library only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import hrnet
from hrnet.cli import UserError
from hrnet.hints import nearest
from hrnet.io.recognise import ONNX, WEIGHTS, Kind, recognise
from hrnet.layouts import COCO_LAYOUT, IMAGENET_LAYOUTS, check_coco, check_imagenet
from hrnet.plain_images import find_plain_images
from make.call import TORCH_BACKENDS, Errors, OptionError, Options

FILES = ("DATASET", "WEIGHTS", "ONNX", "TS", "OM", "PREP")
EVALUATION = {"infer", "eval", "cluster", "gate", "show", "qps", "compare"}  # targets that read DATASET and a model
DATA_GOALS = EVALUATION | {"preprocess", "part", "reference", "quantize", "gears", "train"}  # that read DATASET
MODEL_GOALS = EVALUATION | {"om", "predict", "bench", "bundle", "serve"}  # that need a model
KINDS = {"WEIGHTS": WEIGHTS, "ONNX": (ONNX,)}
REFERENCES = ("config", "torch", "onnx")
METRICS_HINT = "give a record of make eval, such as build/<MODEL>/eval/<SET>/<TAG>.json"


def used_files(options: Options) -> set[str]:
    """Which of FILES this call reads."""
    goals, used = options.goals, set()
    if goals & (MODEL_GOALS | {"onnx", "torchscript", "quantize"}):
        torch = "torchscript" in goals or (options["BACKEND"] in TORCH_BACKENDS and "onnx" not in goals)
        source = "TS" if torch else "ONNX"
        used.add("OM" if options["OM"] else source if options.differs_from_default(source) else "WEIGHTS")
    if goals & {"eval", "cluster", "gate", "reference"} and options["REFERENCE"] == "torch":
        used.add("WEIGHTS")
    measured = options["BUNDLE"] == "stage" and options["REFERENCE"] in ("torch", "onnx")  # on the images of DATASET
    if "bundle" in goals and measured and not options["PREP"]:
        used.add("DATASET")
    int8 = options["PRECISION"].startswith("int8") and goals & MODEL_GOALS and not options["OM"]
    names = "predict" in goals and "DATASET" in options.given  # of classes
    if int8 or ((goals & DATA_GOALS or names) and not options["PREP"]):
        used.add("DATASET")
    return used | ({"PREP"} if options["PREP"] else set())


def missing_files(options: Options, names: set[str]) -> Errors:
    """Errors for the variables `names` whose file does not exist; for WEIGHTS only if it is given or remembered."""
    errors, known = Errors(), options.given | set(options.remembered())
    for name in FILES if names else ():
        needed = options[name] and name in names
        if name == "WEIGHTS" and ("weights" in options.goals or name not in known):
            needed = False  # a rule of the Makefile downloads it, or prints how to get it
        if name in ("ONNX", "TS") and not options.differs_from_default(name):
            needed = False  # a rule of the Makefile exports it
        if needed:
            with errors.collected():
                check_exists(options, name)
    return errors


def check_files(options: Options, dry_run: bool) -> None:
    """Check that the files of this call exist, have the right format and match each other. Raises OptionError for all
    missing files and the errors of REFERENCE, BASE and KEEP_FLOAT together. If there are none, the other checks run and
    raise OptionError for their first error. In a dry run, DATASET and model files that are not given may be missing,
    and the layout of DATASET is not checked."""
    downloads = "weights" in options.goals
    own = "WEIGHTS" not in options.given and options.differs_from_default("WEIGHTS")
    if downloads and own and options.downloadable:
        hint = f"make weights WEIGHTS={options.default('WEIGHTS')}"
        raise options.error("WEIGHTS", "make weights would write the published checkpoint to your file", hint)
    used = used_files(options)
    errors = missing_files(options, options.given | (set() if dry_run else used))
    with errors.collected():
        check_reference(options)
    with errors.collected():
        check_other_files(options)
    errors.throw()
    if options["PREP"]:
        check_prep(options)
    if "predict" in options.goals:
        check_images(options)
    for name, known in KINDS.items():
        exists = name in options.given and name in used and Path(options[name]).exists()
        if exists and (kind := recognise(options[name], options["PYTHON"])) and kind.name not in known:
            raise options.error(name, f"not {known[0]}, but {kind.name}", hint_for_kind(options, name, kind))
    if not dry_run and "DATASET" in used and Path(options["DATASET"]).exists():
        check_dataset(options)


def hint_for_kind(options: Options, name: str, kind: Kind) -> Optional[str]:
    """What to do with the file of the variable `name`, which is of another kind."""
    path = options[name]
    if path.endswith((".yaml", ".yml")):
        return f"give CFG={path}"
    if name == "ONNX" and kind.name in WEIGHTS:
        network = "export it to ONNX first; for a network of configs/: MODEL=<its config> " if options.onnx else "give "
        return f"{network}WEIGHTS={path}"
    return kind.hint or None


def check_prep(options: Options) -> None:
    """Raise OptionError unless PREP is a directory of inputs whose dtype is INPUT (with OM, INPUT is not used)."""
    check_exists(options, "PREP")
    manifest = Path(options["PREP"], "manifest.json")
    if not manifest.is_file():
        raise options.error(
            "PREP", "no manifest.json in it", "give a directory of inputs, such as build/<MODEL>/prep/<SET>"
        )
    found = re.search(r'"dtype": *"([a-z0-9]+)"', manifest.read_text(encoding="utf-8", errors="replace"))
    if found and found[1] != options["INPUT"] and not options["OM"]:
        hint = f"give INPUT={found[1]}, or PREP= to preprocess DATASET"
        raise options.error("PREP", f"its inputs are {found[1]}, not INPUT={options['INPUT']}", hint)


def check_other_files(options: Options) -> None:
    """Raise OptionError if BASE or the list in KEEP_FLOAT does not exist."""
    if "report" in options.goals and options["BASE"]:
        if not Path(options["BASE"]).is_file():
            hint = "copy build/MODEL/eval before the next run, and give a record in the copy"
            raise options.error("BASE", "no such metrics record", hint)
        if not is_metrics(options["BASE"]):
            raise options.error("BASE", "not a metrics record", METRICS_HINT)
    kept = Path(options["KEEP_FLOAT"])
    if options["KEEP_FLOAT"] not in ("", "auto") and (not kept.is_file() or kept.stem == "auto"):
        why = "the name auto is used for the list that make writes" if kept.is_file() else "no such list of operators"
        raise options.error("KEEP_FLOAT", why, "give another file, or KEEP_FLOAT=auto")


def check_exists(options: Options, name: str) -> None:
    """Raise OptionError if the file of the variable `name` does not exist. The hint is the nearest name in its
    directory, or how to get the file."""
    path = Path(options[name])
    if path.exists():
        return
    if name == "DATASET" and hrnet.BOARD and name not in options.given | set(options.remembered()):
        hint = f"give DATASET=<directory> with {COCO_LAYOUT if options.pose else IMAGENET_LAYOUTS}"
        raise OptionError("no DATASET: this bundle contains no images", hint)
    if path.is_symlink():
        raise options.error(name, f"a link to {path.readlink()}, which is missing")
    folder = path.parent
    if not folder.is_dir():
        raise options.error(name, f"no directory {folder}", other_build(options, name) or how_to_get(options, name))
    others = (
        each for each in folder.iterdir() if each.name[0] != "." and each.is_dir() == (name in ("DATASET", "PREP"))
    )
    near = nearest(path.name, (each.name for each in others))
    hint = f"did you mean {name}={folder / near}?" if near else other_build(options, name) or how_to_get(options, name)
    raise options.error(name, "no such file or directory", hint)


def how_to_get(options: Options, name: str) -> str:
    layout = COCO_LAYOUT if options.pose else IMAGENET_LAYOUTS
    if hrnet.BOARD and name in ("OM", "PREP"):
        forget = f"rm {options.settings / name}.mk" if name not in options.given else f"leave out {name}="
        return f"to use what is packed: {forget}"
    download = f"; or make weights WEIGHTS={options.default('WEIGHTS')}" if options.downloadable else ""
    return {
        "DATASET": f"give DATASET=<directory> that contains {layout}",
        "WEIGHTS": f"give WEIGHTS=<file>{download}",
        "ONNX": f"to export one from WEIGHTS, give ONNX={options.default('ONNX')}",
        "TS": f"to export one from WEIGHTS, give TS={options.default('TS')}",
        "OM": "to compile a model, give an empty OM=",
        "PREP": "to preprocess DATASET, give an empty PREP=",
    }[name]


def other_build(options: Options, name: str) -> str:
    """A hint if there are results of the model in another output directory, such as that of make demo; empty if the
    variable `name` is given, since BUILD does not change its path."""
    if name in options.given:
        return ""
    build, model = Path(options["BUILD"]), options["MODEL"]
    places = [*sorted(build.glob(f"*/{model}/settings")), build.parent / model / "settings"]
    if options.settings.exists() or not places[0].exists():
        return ""
    return f"the results of {model} are in {places[0].parent.parent}: give BUILD={places[0].parent.parent}"


def check_dataset(options: Options) -> None:
    """Raise OptionError if the layout of DATASET is not supported for the task."""
    dataset = Path(options["DATASET"])
    if dataset.name == "val" and dataset.is_dir() and not (dataset / "val").is_dir():
        raise options.error("DATASET", "not the parent directory of val", f"give DATASET={dataset.parent}")
    if options.goals == {"train"}:
        return  # the training set has other directories
    evaluates = options.goals & (DATA_GOALS - {"quantize"})
    if not evaluates and not options.pose and (dataset / "train").is_dir():
        return  # only calibrates an int8 model, with the images in train/ and without labels
    try:
        if options.pose:
            check_coco(dataset, options.split)
        else:
            check_imagenet(dataset)
    except UserError as error:
        where = "" if error.where == dataset else f"{error.where}: "
        facts = {"expected": error.expected, "found": error.found}
        known = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
        raise options.error("DATASET", f"{where}{error.what}{f' ({known})' if known else ''}", error.hint) from None


def is_metrics(path: str) -> bool:
    """Whether a file begins like a metrics record. The stage that reads it, after the inference, checks the rest."""
    with open(path, "rb") as file:
        return re.match(rb'\s*\{\s*"kind":\s*"metrics"', file.read(100)) is not None


def check_reference(options: Options) -> None:
    """Raise OptionError if REFERENCE is not a known word or a file, or cannot be measured on a board."""
    reference = options["REFERENCE"]
    if reference not in ("", *REFERENCES) and not Path(reference).is_file():
        near = nearest(reference, REFERENCES)
        hint = f"give REFERENCE={near}" if near else f"give {', '.join(REFERENCES)}, or the metrics record of make eval"
        raise options.error("REFERENCE", "no such metrics record", hint)
    if reference not in ("", *REFERENCES) and not is_metrics(reference):
        raise options.error("REFERENCE", "not a metrics record", METRICS_HINT)
    measured_from = {"torch": "WEIGHTS", "onnx": "ONNX"}.get(reference, "")
    if hrnet.BOARD and measured_from and not Path(options[measured_from]).is_file():
        hint = "give REFERENCE=config, or a metrics record that the host wrote for the same images"
        why = f"cannot be measured on the board: {options[measured_from]} is not in the bundle"
        raise options.error("REFERENCE", why, hint)


def check_images(options: Options) -> None:
    """Check that IMAGES names images. Raises OptionError."""
    if not options["IMAGES"].strip():
        raise OptionError(
            "make predict: no IMAGES", 'give IMAGES=<files and directories>, such as IMAGES="a.jpg photos/"'
        )
    try:
        find_plain_images(options["IMAGES"].split())
    except UserError as error:
        raise OptionError(f"IMAGES: {error}") from None
