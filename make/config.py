"""Find the config of a call of make: MODEL's file in configs/, or the path in CFG; standard library only."""

from __future__ import annotations

import re
from pathlib import Path

from hrnet.hints import nearest
from make.call import CONFIGS, OptionError, Options
from make.checks import FILE, optional
from make.classifier import read_kind, values_of, without_comments
from make.ignored import ignore_weights

FAMILY = "family"  # MODEL of make family; its products and remembered values are in BUILD/family
YAML = (".yaml", ".yml")
SUFFIXES = {  # variable -> suffixes of the files that it names
    "ONNX": (".onnx",),
    "OM": (".om",),
    "TS": (".ts",),
    "WEIGHTS": (".pth", ".tar", ".safetensors", ".pdparams"),
}


def shipped() -> list[str]:
    """The names of the configs in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(options: Options) -> None:
    """Set CFG: MODEL's file in configs/, or the given path; its stem must be MODEL. Raises OptionError."""
    given, model = options["CFG"], options["MODEL"]
    if not re.fullmatch(optional(FILE).pattern, given):
        raise options.format_error("CFG", FILE.expected)
    if given in shipped():
        given = str(CONFIGS / f"{given}.yaml")
    if not given:
        if model not in shipped():
            raise options.error("MODEL", "no such config", which_model(model, Path(options["BUILD"])))
        given = str(CONFIGS / f"{model}.yaml")
    path = Path(given)
    if path.suffix not in YAML or not path.is_file():
        options.values["CFG"] = given
        remembered = "CFG" not in options.given
        raise options.error("CFG", "no such YAML file", "give CFG=<its new path>" if remembered else which_config(path))
    if path.stem != model:
        raise options.error("MODEL", f"CFG={given} is the config of MODEL={path.stem}", "give only MODEL or CFG")
    if model == FAMILY:
        raise OptionError(f"CFG={given}: make family writes to the directory {model}", "rename the file")
    if model in shipped() and path.resolve() != (CONFIGS / f"{model}.yaml").resolve():
        raise OptionError(
            f"CFG={given}: configs/ also contains {model}, and both would write the same products", "rename the file"
        )
    options.values["CFG"] = given
    text = path.read_text(encoding="utf-8", errors="replace")
    options.pose = "pose_higher_hrnet" in values_of("NAME", without_comments(text))
    read_kind(options, text)
    if options.onnx:
        ignore_weights(options)
    options.split = coco_split(text)
    options.class_names = class_names_file(text, path.parent)


def variable_of(path: str) -> str:
    """The variable for a file with this ending, other than CFG; empty if there is none."""
    return next((name for name, endings in SUFFIXES.items() if path.endswith(endings)), "")


def which_config(path: Path) -> str:
    """A hint for a CFG that is not a YAML file: another variable for it, or the nearest YAML file in its directory or
    in configs/."""
    if other := variable_of(str(path)):
        return f"give it as {other}={path}"
    files = {each.stem: each for suffix in YAML for each in sorted(path.parent.glob(f"*{suffix}"))}
    files = {**{name: CONFIGS / f"{name}.yaml" for name in shipped()}, **files}
    stem = path.stem if path.suffix in YAML else path.name
    if stem in files:
        return f"give CFG={files[stem]}"
    near = nearest(stem, files)
    return f"did you mean CFG={files[near]}?" if near else f"the configs in configs/: {', '.join(shipped())}"


def which_model(name: str, build: Path) -> str:
    """A hint for an unknown MODEL: the nearest one in configs/ or with remembered values in `build`, or another
    variable for the path of a file."""
    path = Path(name)
    known = [*shipped(), *(each.parent.parent.name for each in sorted(build.glob("*/settings/CFG.mk")))]
    if other := variable_of(name):
        return f"give it as {other}={name}, with MODEL=<name in configs/> or CFG=<YAML file>"
    near = nearest(path.stem if path.suffix in YAML else name, known)
    if path.suffix in YAML or path.parent != Path():
        if not path.is_file() and near:
            return f"give MODEL={near}" if near == path.stem else f"did you mean MODEL={near}?"
        return f"give MODEL={path.stem}" if path.stem in known else f"for the path of a YAML file: CFG={name}"
    if own := next((each for each in map(f"{name}{{}}".format, YAML) if Path(each).is_file()), ""):
        return f"give CFG={own}"
    return f"{f'did you mean {near}? ' if near else ''}expected one of {', '.join(shipped())}, or CFG=<YAML file>"


def coco_split(config: str) -> str:
    """DATASET.TEST of a pose config's YAML, which selects the annotation file; default: val2017."""
    section = re.search(r"^DATASET:(.*(?:\n(?![^ #\n]).*)*)", config, re.MULTILINE)
    found = re.search(r"\bTEST:[ ]*[\"']?([A-Za-z0-9_-]+)", section[1]) if section else None
    return found[1] if found else "val2017"


def class_names_file(config: str, folder: Path) -> str:
    """The path in INPUT.CLASS_NAMES of a config in `folder`; empty if that file does not exist."""
    found = re.search(r"\bCLASS_NAMES:[ ]*[\"']?([A-Za-z0-9_./-]+)", config)
    return str(folder / found[1]) if found and (folder / found[1]).is_file() else ""
