"""Checks make's options, resolves what they leave open, names the products, and remembers given values.

    python3 -m make.options [--dry_run] --goals GOALS --overrides NAMES -- NAME:ORIGIN:VALUE ...

Called by make/resolve.mk, before a virtual environment exists: standard library only. A wrong value is one line on
stdout and exit 2. Otherwise it prints `NAME:=value` words for make, and writes each given value that changed to
`<BUILD>/<MODEL>/settings/<NAME>.mk` as `NAME ?= value`, which the Makefile includes: so a value given once holds for
later calls, and what depends on a changed one is out of date. A dry run writes nothing; there STALE names the files.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from hrnet.cli import escape_output
from make import images
from make.checks import CHECKS, FILE, optional

MAX_IMAGES = 99_996  # inputs that ais_bench accepts in a directory, beside preprocessing's four records
PART_IMAGES = 20_000  # of a part, where the number of parts is chosen here: 12 GB of float32 inputs at 224 x 224
CONFIGS = Path("configs")
TORCH, NPU = ("torchscript", "torch_aie"), ("ascend", "torch_aie")  # backends: compute with torch; compile for a chip
EXTENSIONS = {"ascend": ".om", "torchscript": ".ts", "torch_aie": ".ts"}  # of a compiled model; others: .onnx
NOT_REMEMBERED = {"MODEL", "BUILD", "PYTHON", "SHARD", "KEEP"}
OTHER_VARIABLES = {"PEERS", "SLOW"}  # make/project.mk's
SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"


class OptionError(Exception):
    """A wrong value, in one line."""


@dataclass
class Options:
    """The values of one call of make, and where they come from."""

    values: dict[str, str]
    given: set[str]  # on the command line or in the environment
    goals: set[str]
    pose: bool = False
    split: str = "val2017"  # of COCO

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    @property
    def folder(self) -> Path:
        return Path(self["BUILD"], self["MODEL"])

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def annotations(self) -> Path:
        return Path(self["DATASET"], "annotations", f"person_keypoints_{self.split}.json")

    def remembered(self) -> dict[str, str]:
        """The values of earlier calls that hold now."""
        texts = {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in self.settings.glob("*.mk")}
        for name, text in sorted(texts.items()):
            if not re.fullmatch(rf"{re.escape(name)} \?= [^\x00-\x1f$#]*\n", text):
                path = self.settings / f"{name}.mk"
                raise OptionError(f"{path}: expected one line, {name} ?= <value>; rm {path}")
        values = {name: text.partition("= ")[2].strip() for name, text in sorted(texts.items())}
        return {
            name: value for name, value in values.items() if value and name in self.values and name not in self.given
        }

    def refuse(self, name: str, why: str) -> OptionError:
        return OptionError(f"{name}={self[name]}: {why}")


def shipped() -> list[str]:
    """The names of the configs in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(options: Options) -> None:
    """Set CFG: MODEL's file in configs/, or the given path, whose stem is MODEL. Raises OptionError."""
    given, model = options["CFG"], options["MODEL"]
    if not re.fullmatch(optional(FILE).pattern, given):
        raise options.refuse("CFG", f"expected {FILE.expected}")
    if given in shipped():
        given = str(CONFIGS / f"{given}.yaml")
    if not given:
        if model not in shipped():
            raise options.refuse("MODEL", f"no such config; expected one of {', '.join(shipped())}, or CFG=<YAML file>")
        given = str(CONFIGS / f"{model}.yaml")
    path = Path(given)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        remembered = "" if "CFG" in options.given else f" (remembered for MODEL={model}; give CFG=<its new path>)"
        raise OptionError(f"CFG={given}: no such YAML file{remembered}")
    if path.stem != model:
        raise options.refuse("MODEL", f"CFG={given} is the config of MODEL={path.stem}; give one of the two")
    if model in shipped() and path.resolve() != (CONFIGS / f"{model}.yaml").resolve():
        raise OptionError(
            f"CFG={given}: {model} is the name of a config in configs/, whose products it would share; rename the file"
        )
    options.values["CFG"] = given
    text = path.read_text(encoding="utf-8", errors="replace")
    options.pose = "pose_higher_hrnet" in text
    options.split = coco_split(text)


def coco_split(config: str) -> str:
    """DATASET.TEST of a pose config's YAML: which annotation file is evaluated."""
    section = re.search(r"^DATASET:(.*(?:\n(?![^ #\n]).*)*)", config, re.MULTILINE)
    found = re.search(r"\bTEST:[ ]*[\"']?([A-Za-z0-9_-]+)", section[1]) if section else None
    return found[1] if found else "val2017"


def set_defaults(options: Options) -> None:
    """Fill in what depends on the task, and bring values to one form."""
    batches = "1" if options.pose else "1,4,8,16,32,64" if "qps" in options.goals else "1,4,8,16,32"
    defaults = {
        "DATASET": "data/coco" if options.pose else "data/imagenet",
        "BATCH": "1" if options.pose else "16",
        "BATCHES": batches,
    }
    options.values.update({name: value for name, value in defaults.items() if not options[name]})
    options.values["BATCHES"] = re.sub(r"\s*,\s*|\s+", ",", options["BATCHES"].strip())
    options.values["PREP"] = options["PREP"].rstrip("/")
    if re.match("310|910", options["SOC"]):
        note(f"SOC={options['SOC']}: using Ascend{options['SOC']}")
        options.values["SOC"] = f"Ascend{options['SOC']}"


def check_values(options: Options) -> None:
    """Check each value by itself, and against the task. Raises OptionError for the first wrong one."""
    for name, check in CHECKS.items():
        if not re.fullmatch(check.pattern, options[name]):
            raise options.refuse(name, f"expected {check.expected}")
    task = "pose" if options.pose else "classification"
    for goal in options.goals & ({"qps"} if options.pose else {"gears"}):
        raise OptionError(f"make {goal}: not available for {task} models such as {options['MODEL']}")
    if options.pose:
        for name in ("BATCH", "BATCHES"):
            if options[name] != "1":
                raise options.refuse(name, "expected 1: a pose model takes one image at a time")
    if options["BACKEND"] == "openvino" and options["PRECISION"] == "fp16":
        raise options.refuse("PRECISION", "OpenVINO would compute in float32; use BACKEND=onnxruntime")


def check_files(options: Options) -> None:
    """Check that given files exist and fit together. Raises OptionError for the first that does not."""
    for name in ("DATASET", "WEIGHTS", "ONNX", "TS", "OM", "PREP"):
        downloaded = name == "WEIGHTS" and "weights" in options.goals
        if name in options.given and options[name] and not downloaded and not Path(options[name]).exists():
            raise options.refuse(name, "no such file or directory")
    if options["PREP"] and not Path(options["PREP"], "manifest.json").is_file():
        raise options.refuse("PREP", "no manifest.json in it; expected a directory written by make preprocess")
    if options["REFERENCE"] not in ("", "torch") and not Path(options["REFERENCE"]).is_file():
        raise options.refuse("REFERENCE", "no such metrics file")
    dataset = Path(options["DATASET"])
    if dataset.name == "val" and dataset.is_dir() and not (dataset / "val").is_dir():
        raise options.refuse("DATASET", f"give the directory above it: DATASET={dataset.parent}")
    if "bundle" in options.goals and options["BUNDLE"] == "stage" and options["REFERENCE"]:
        raise options.refuse(
            "REFERENCE", "is measured on this machine's inputs; with BUNDLE=stage give REFERENCE= (the config's figure)"
        )


def count_images(options: Options, enough: int) -> int:
    if options.pose:
        return images.count_coco(options.annotations, enough)
    return images.count_classified(Path(options["DATASET"]))


def set_shards(options: Options) -> None:
    """Resolve SHARDS: as many parts as ais_bench's limit of files and the devices need. Raises OptionError."""
    limit, devices = int(options["LIMIT"]), options["DEVICE"].split(",")
    if options["SHARD"]:
        number, count = options["SHARD"].split("/")
        if int(number) > int(count):
            raise options.refuse("SHARD", f"expected a part from 1/{count} to {count}/{count}")
        if "SHARDS" in options.given and options["SHARDS"] != count:
            raise options.refuse("SHARD", f"SHARDS={options['SHARDS']} is another number of parts")
        options.values["SHARDS"] = count
    elif "part" in options.goals:
        raise OptionError("make part: give SHARD=<part>/<number of parts>, such as SHARD=3/16")
    asked = options["SHARDS"]
    if not asked and "merge" in options.goals:
        raise OptionError("make merge: give SHARDS=<number of parts>")
    if not asked and options.goals & {"eval", "gate", "show"} and not options["PREP"]:
        counted = count_images(options, MAX_IMAGES)
        needed = -(-min(counted, limit or counted) // PART_IMAGES) if min(counted, limit or counted) > MAX_IMAGES else 1
        options.values["SHARDS"] = str(max(needed, len(devices)))
        if options["SHARDS"] != "1":
            why = f"more than {MAX_IMAGES} images" if needed > 1 else f"DEVICE={options['DEVICE']}"
            note(f"SHARDS={options['SHARDS']}: computing in parts ({why})")
    shards = options.values["SHARDS"] = options["SHARDS"] or "1"
    if len(devices) > int(shards) and options.goals & {"eval", "gate", "show", "infer"} and not options["SHARD"]:
        raise options.refuse("DEVICE", f"each device computes parts; give SHARDS={len(devices)} or more to make eval")
    whole = sorted(options.goals & {"preprocess", "infer", "reference", "qps"})
    if shards != "1" and whole:
        raise OptionError(
            f"make {whole[0]}: SHARDS={shards} is computed by make eval; give SHARDS=1 for {whole[0]} alone"
        )
    if shards != "1" and options["PREP"]:
        raise options.refuse("PREP", f"are inputs of the whole data set; give SHARDS=1 instead of {shards}")


def refuse_chunk(options: Options) -> None:
    """CHUNK of an older release: refuse it, whether it was given or remembered."""
    chunk = options.values.pop("CHUNK", "0")
    options.given.discard("CHUNK")
    if chunk not in ("", "0"):
        counted = count_images(options, 0) if chunk.isdigit() else 0
        shards = -(-counted // int(chunk)) if counted else "<number of parts>"
        remembered = options.settings / "CHUNK.mk"
        forget = f" (remembered: rm {remembered})" if remembered.is_file() else ""
        raise OptionError(f"CHUNK={chunk}: replaced by the number of parts; give SHARDS={shards} instead{forget}")


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
        raise options.refuse("BACKEND", f"atc is not on PATH; {SET_ENV}")
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


def check_python(options: Options) -> None:
    if not shutil.which(options["PYTHON"]):
        raise options.refuse("PYTHON", "no such interpreter; run make setup first, or give PYTHON=")


def product_names(options: Options) -> dict[str, str]:
    """The parts of product names: what was preprocessed (SET), compiled for (TARGET), run (TAG)."""
    value = options.values
    chip = value["BACKEND"] in NPU
    precision = value["PRECISION"] if chip else value["PRECISION"].replace("default", "fp32")
    parts = [precision]
    if chip:
        parts = [value["SOC"], *(part for part in (precision, value["TUNE"]) if part not in ("default", "none"))]
    target = "-".join(parts)
    limit = f"-first{value['LIMIT']}" if value["LIMIT"] != "0" else ""
    inputs = f"{Path(value['DATASET']).name}-{value['INPUT']}{limit}"
    name = Path(value["PREP"]).name or inputs
    tag = f"om-{Path(value['OM']).stem}" if value["OM"] else f"bs{value['BATCH']}-{target}"
    flips = "1" if options.pose and value["FLIP"] == "1" else ""
    pack_inputs = "1" if value["BUNDLE"] == "inputs" else ""
    devices = value["DEVICE"].replace(",", "-")
    bench = f"{value['BACKEND']}-{target}{'' if value['INPUT'] == 'float32' else '-' + value['INPUT']}-dev{devices}"
    return {
        "TASK": "pose" if options.pose else "classification",
        "POSE": "1" if options.pose else "",
        "FLIPS": flips,
        "FLIP_DIR": "1" if flips and value["BACKEND"] == "ascend" else "",
        "NOFLIP": "-noflip" if options.pose and not flips else "",
        "SHARDED": "1" if value["SHARDS"] != "1" or value["SHARD"] or "merge" in options.goals else "",
        "ANNOTATIONS": str(options.annotations) if options.pose else "",
        "PRECISION": precision,
        "EXT": EXTENSIONS.get(value["BACKEND"], ".onnx"),
        "CHIP": value["SOC"] if chip else "",
        "TARGET": target,
        "SET": inputs,
        "NAME": name,
        "TAG": f"{value['BACKEND']}-{tag}",
        "BENCH": bench,
        "QPS": f"{value['BACKEND']}-{target}-qps",
        "PACK_INPUTS": pack_inputs,
        "PACKED": name if pack_inputs else "stage",
    }


def report_ignored(options: Options) -> None:
    """Report given values that have no effect."""
    ignored = {"OM": ("WEIGHTS", "ONNX", "TS", "BATCH", "PRECISION", "SOC", "TUNE"), "PREP": ("LIMIT", "MAX_REJECTED")}
    for name, others in ignored.items():
        for other in others:
            if options[name] and other in options.given:
                note(f"{other}={options[other]} is ignored because {name}={options[name]} is set")
    if not options.pose and "FLIP" in options.given:
        note(f"FLIP={options['FLIP']} is ignored: only pose models have a flip test")
    if options["OM"] and options["PREP"] and "INPUT" in options.given | set(options.remembered()):
        note(f"INPUT={options['INPUT']} is ignored because OM={options['OM']} and PREP={options['PREP']} are set")


def remember(options: Options, given: dict[str, str], dry_run: bool) -> list[str]:
    """Write the given values that changed; returns their files. Raises OptionError where that fails."""
    stale = []
    for name, value in sorted(given.items()):
        path, text = options.settings / f"{name}.mk", f"{name} ?= {value}\n"
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
            continue
        stale.append(str(path))
        if not dry_run:
            temporary = path.with_name(f".{name}.{os.getpid()}")
            try:
                os.umask(0o027)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
            except OSError as error:
                raise options.refuse("BUILD", f"{path} cannot be written: {error.strerror}") from None
    return stale


def check_names(overrides: set[str], known: set[str]) -> None:
    """Refuse variables on the command line that do not exist."""
    for name in sorted(overrides - known):
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {near[0]}?" if near else "make help lists the variables"
        raise OptionError(f"{name}: no such variable; {hint}")


def note(line: str) -> None:
    print(line, file=sys.stderr)


def resolve(options: Options, overrides: set[str], dry_run: bool) -> dict[str, str]:
    """What make is to know. Raises OptionError."""
    check_names(overrides, set(options.values) | OTHER_VARIABLES)
    find_config(options)
    asked = set(options.given)
    set_defaults(options)
    given = (
        {} if "part" in options.goals else {name: options[name] for name in asked - NOT_REMEMBERED if name in CHECKS}
    )
    refuse_chunk(options)
    check_values(options)
    set_shards(options)
    if options.goals & {"clean"}:
        return {}
    remembered = options.remembered()
    backend_asked = options["BACKEND"]
    options.values["BACKEND"], why = resolve_backend(backend_asked, options["OM"])
    if "doctor" not in options.goals:
        check_files(options)
        check_backend(options)
        if not dry_run:
            check_python(options)
        report_ignored(options)
        if remembered:
            values = " ".join(f"{name}={value}" for name, value in remembered.items())
            note(f"{options['MODEL']} as remembered in {options.settings}: {values}")
        if backend_asked == "auto":
            note(f"BACKEND=auto: using {options['BACKEND']} ({why.partition(': ')[2]})")
    stale = remember(options, given, dry_run or "doctor" in options.goals)
    names = product_names(options)
    changed = {name: value for name, value in options.values.items() if name not in NOT_REMEMBERED}
    return {**changed, **names, "BACKEND_ASKED": backend_asked, "STALE": ",".join(stale)}


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make.options", description=__doc__.splitlines()[0])
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--goals", default="")
    parser.add_argument("--overrides", default="", help="names of the variables on make's command line")
    parser.add_argument("options", nargs="*", help="NAME:ORIGIN:VALUE")
    return parser.parse_args(argv)


def main(argv: Optional[list[str]] = None) -> int:
    escape_output()
    args = parse_args(argv)
    parts = [option.split(":", 2) for option in args.options]
    values = {name: value for name, _, value in parts}
    given = {name for name, origin, _ in parts if origin in ("command", "environment")}
    try:
        words = resolve(Options(values, given, set(args.goals.split())), set(args.overrides.split()), args.dry_run)
    except OptionError as error:
        print(error)
        return 2
    print(*(f"{name}:={value}" for name, value in words.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
