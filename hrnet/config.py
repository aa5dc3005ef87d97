"""Model configs: the yacs keys of upstream's experiment files, plus our own, checked against a strict schema.

Upstream's files, such as `cls_hrnet_w18_sgd_lr5e-2_wd1e-4_bs32_x100.yaml` or `w32_512_adam_lr1e-3.yaml`, load
unchanged. MODEL.NAME selects the schema in hrnet/schemas.py. An unknown key is an error, also below MODEL.EXTRA, where
upstream accepts any key.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import logging
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import yaml
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.gears import check_gears, read_gears
from hrnet.hints import nearest
from hrnet.io.files import AnyPath
from hrnet.pose.joints import COUNT
from hrnet.schemas import CLASSIFICATION, IGNORED, INTERPOLATIONS, ONNX, POSE, POSE_TEST, RESIZERS, SCHEMAS
from hrnet.yaml_file import NO_COLON, read_yaml

CONFIGS = Path(os.path.relpath(Path(__file__).resolve().parent.parent / "configs"))

TYPES = {int: "an integer", float: "a number", str: "text", bool: "true or false", list: "a list", tuple: "a list"}
LARGEST = 2**31 - 1  # largest number in a config
NAMED_FILES = ("GEARS", "CLASS_NAMES")  # keys of INPUT whose value may be the path of a file
MULTIPLE = 32  # pixels; height and width must be multiples of it: the last branch has 1/32 of the resolution

# All of upstream's classification files have a misspelt key (NUM_RANCHES); yacs would warn each time.
logging.getLogger("yacs.config").setLevel(logging.ERROR)


def config_path(model: str) -> Path:
    """The path of a model's YAML file. `model`: a name in `configs/`, or a path that ends in .yaml or .yml."""
    return Path(model) if model.endswith((".yaml", ".yml")) else CONFIGS / f"{model}.yaml"


def add_cfg_argument(parser: argparse.ArgumentParser, default: Optional[str] = None) -> None:
    """Add `--cfg`, which all scripts have; its value is the Path of a YAML file."""
    text = "model: a name in configs/, or the path of a YAML file" + (" (%(default)s)" if default else "")
    parser.add_argument("--cfg", type=config_path, required=default is None, default=default, help=text)


def load_config(path: AnyPath, *kinds: str, complete: bool = True) -> CfgNode:
    """Read a model's YAML file. Missing keys get the defaults of the schema for its MODEL.NAME (classification if there
    is none). The result is frozen. `kinds`: values of MODEL.NAME that the caller accepts (default: all). `complete`:
    for an ONNX classifier, require the values that `atc.classifier` reads from its file.

    Raises UserError if the file is missing, not a YAML mapping or of another kind, and for unknown keys, wrong types
    and invalid or inconsistent values.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = nearest(path.stem, known)
        hint = f"did you mean {near}?" if near else f"known configs there: {', '.join(known) or 'none'}"
        raise UserError("no such config", where=path, hint=hint)
    values = read_yaml(path)
    schema = _schema(values, path, kinds or tuple(SCHEMAS))
    ignored = []
    for name, value in _check_keys(values, schema, path, ""):
        if name in IGNORED[schema.MODEL.NAME]:
            ignored.append(name)
        elif value is None:
            raise UserError(f"{name} has no value", where=path, hint="leave the key out to use its default")
    if ignored:
        print(f"{path}: keys without effect here: {', '.join(ignored)}", file=sys.stderr)
    _read_named_files(values, schema, path)
    try:
        schema.merge_from_other_cfg(CfgNode(values))
    except (ValueError, KeyError) as error:
        raise UserError(" ".join(str(error.args[0]).split()), where=path) from None
    _Check(schema, path).all()
    if complete and schema.MODEL.NAME == ONNX and not is_complete(schema):
        hint = (
            f"make eval CFG={path} ONNX=<file>, or python -m atc.classifier --cfg {path} --model <file> --output <YAML>"
        )
        what = "incomplete config of an ONNX classifier"
        raise UserError(what, where=path, expected="MODEL.IMAGE_SIZE, MODEL.NUM_CLASSES and INPUT.RESIZE", hint=hint)
    schema.freeze()
    return schema


def is_complete(config: CfgNode) -> bool:
    """Whether the config of an ONNX classifier has the values that `atc.classifier` adds."""
    return bool(config.MODEL.IMAGE_SIZE and config.MODEL.NUM_CLASSES and config.INPUT.RESIZE)


def _schema(values: dict[str, Any], path: Path, known: tuple[str, ...]) -> CfgNode:
    """The schema for the config's MODEL.NAME."""
    model = values.get("MODEL")
    if "MODEL" in values and not isinstance(model, dict):
        raise _not_a_mapping("MODEL", model, path)
    name = model.get("NAME", CLASSIFICATION) if model else CLASSIFICATION
    if name not in known:
        hint = None if model and "NAME" in model else f"the config has no MODEL.NAME, which means {name}"
        raise UserError("invalid MODEL.NAME", where=path, expected=" or ".join(known), found=name, hint=hint)
    return SCHEMAS[name]()


def _check_keys(values: dict[str, Any], schema: CfgNode, path: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the full names and values of all keys in the file. Converts an integer to float where the schema has a
    float (`LR: 1`), which yacs does not do. Raises UserError for unknown keys and for values of unsupported types."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if schema.key_is_deprecated(name) or name == "MODEL.EXTRA.STAGE1.NUM_RANCHES":
            continue
        if key not in schema:
            near = nearest(str(key), schema)
            hint = f"did you mean {prefix}{near}?" if near else f"known keys there: {', '.join(sorted(schema))}"
            raise UserError(f"unknown key {name}", where=path, hint=hint)
        default = schema[key]
        if isinstance(default, CfgNode):
            if not isinstance(value, dict):
                raise _not_a_mapping(name, value, path)
            yield from _check_keys(value, default, path, f"{name}.")
            continue
        if not _is_plain(value):
            expected = f"numbers up to {LARGEST}, text, true, false, or lists of them"
            raise UserError(f"invalid {name}", where=path, expected=expected, found=repr(value)[:80])
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = values[key] = float(value)
        _check_type(name, value, default, path)
        yield name, value


def _not_a_mapping(name: str, value: Any, path: Path) -> UserError:
    hint = NO_COLON if isinstance(value, str) and ":" in value else None
    return UserError(f"{name} is not a mapping", where=path, expected="keys with values", found=repr(value), hint=hint)


def _check_type(name: str, value: Any, default: Any, path: Path) -> None:
    """Raise UserError for a value whose type is not that of the default. null, and the path of a file in INPUT, are
    read elsewhere."""
    of_file = name in [f"INPUT.{key}" for key in NAMED_FILES] and isinstance(value, str)
    expected = TYPES.get(type(default))
    if value is None or expected is None or of_file or TYPES.get(type(_as_yacs_reads(value))) == expected:
        return
    hint = f"write {name.rpartition('.')[2]}: {_as_yaml(default)}, or another value" if default else None
    raise UserError(f"invalid {name}", where=path, expected=expected, found=repr(value)[:80], hint=hint)


def _as_yacs_reads(value: Any) -> Any:
    """Text that is a literal of Python is its value, such as `(0,)` or `1e-3` in upstream's files."""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(value) if isinstance(value, str) else value
    return value


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).partition("\n...")[0].strip()


def named_files(path: AnyPath) -> list[Path]:
    """The files that a config, which `load_config` accepts, names in INPUT; paths are relative to the config."""
    values = read_yaml(Path(path)).get("INPUT", {})
    return [Path(path).parent / values[key] for key in NAMED_FILES if isinstance(values.get(key), str)]


def _read_named_files(values: dict[str, Any], schema: CfgNode, path: Path) -> None:
    """Replace the paths in INPUT.GEARS and INPUT.CLASS_NAMES, relative to the config, by the content of the files."""
    given = values.get("INPUT", {})
    if isinstance(given.get("GEARS"), str):
        short = values.get("DATASET", {}).get("INPUT_SIZE", schema.DATASET.INPUT_SIZE)
        given["GEARS"] = [list(gear) for gear in read_gears(path.parent / given["GEARS"], short)]
    if isinstance(given.get("CLASS_NAMES"), str):
        given["CLASS_NAMES"] = _read_class_names(path.parent / given["CLASS_NAMES"])


def _read_class_names(path: Path) -> list[str]:
    """Read the names of classes, one per line in the order of their indices. Raises UserError for a missing file, text
    that is not UTF-8, and an empty or unprintable line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("no such file of class names", where=path, hint="fix INPUT.CLASS_NAMES in the config") from None
    except UnicodeDecodeError:
        raise UserError("class names are not UTF-8 text", where=path) from None
    if not lines:
        raise UserError("an empty file", where=path, expected="one name of a class per line")
    names = [line.strip() for line in lines]
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise UserError(f"line {number}", where=path, expected="the name of a class", found=repr(name)[:80])
    return names


def check_class_names(config: CfgNode, path: AnyPath) -> None:
    """Raise UserError unless INPUT.CLASS_NAMES is empty or has a name for each of MODEL.NUM_CLASSES classes."""
    names, classes = config.INPUT.CLASS_NAMES, config.MODEL.NUM_CLASSES
    if not all(isinstance(name, str) for name in names):
        expected = "a text file with one name per line, or a list of names in quotes"
        raise UserError("invalid INPUT.CLASS_NAMES", where=path, expected=expected, found=str(names)[:80])
    if names and len(names) != classes:
        expected = f"{classes} names, MODEL.NUM_CLASSES"
        raise UserError("wrong number of INPUT.CLASS_NAMES", where=path, expected=expected, found=len(names))


class _Check:
    """Checks that yacs does not do: lengths of lists, types of their items, ranges, null."""

    def __init__(self, config: CfgNode, path: Path) -> None:
        self.config, self.path = config, path

    def all(self) -> None:
        if self.config.MODEL.NAME == ONNX:
            self.onnx()
        else:
            self.trunk()
            self.weights()
        if self.config.MODEL.NAME == POSE:
            self.pose()
        if self.config.MODEL.NAME == CLASSIFICATION:
            self.classification()
        self.common()

    def require(self, valid: bool, name: str, expected: str, found: object) -> None:
        if not valid:
            raise UserError(f"invalid {name}", where=self.path, expected=expected, found=found)

    def counts(self, name: str, values: Any, length: int, unit: int = 1) -> None:
        """Require a list of `length` positive multiples of `unit`."""
        expected = f"{length} positive integers" if unit == 1 else f"{length} positive multiples of {unit}"
        valid = isinstance(values, (list, tuple)) and len(values) == length
        valid = valid and all(_is_positive_int(value) and value % unit == 0 for value in values)
        self.require(valid, name, expected, values)

    def one_of(self, name: str, value: Any, known: tuple[str, ...]) -> None:
        self.require(value in known, name, " or ".join(known), value)

    def count(self, name: str, value: Any, unit: int = 1) -> None:
        self.counts(name, [value], 1, unit)

    def trunk(self) -> None:
        extra = self.config.MODEL.EXTRA
        self.count("MODEL.EXTRA.STEM_INPLANES", extra.STEM_INPLANES)
        for number in range(1, 5):
            name, stage = f"MODEL.EXTRA.STAGE{number}", extra[f"STAGE{number}"]
            self.require(stage.NUM_BRANCHES == number, f"{name}.NUM_BRANCHES", str(number), stage.NUM_BRANCHES)
            self.count(f"{name}.NUM_MODULES", stage.NUM_MODULES)
            self.counts(f"{name}.NUM_BLOCKS", stage.NUM_BLOCKS, number)
            self.counts(f"{name}.NUM_CHANNELS", stage.NUM_CHANNELS, number)
            self.one_of(f"{name}.BLOCK", stage.BLOCK, ("BASIC", "BOTTLENECK"))
            self.require(stage.FUSE_METHOD == "SUM", f"{name}.FUSE_METHOD", "SUM", stage.FUSE_METHOD)

    def classification(self) -> None:
        model, resize = self.config.MODEL, self.config.INPUT.RESIZE
        self.counts("MODEL.EXTRA.HEAD.CHANNELS", model.EXTRA.HEAD.CHANNELS, 4)
        self.count("MODEL.EXTRA.HEAD.FEATURES", model.EXTRA.HEAD.FEATURES)
        self.count("MODEL.NUM_CLASSES", model.NUM_CLASSES)
        check_class_names(self.config, self.path)
        self.count("INPUT.RESIZE", resize)
        self.counts("MODEL.IMAGE_SIZE", model.IMAGE_SIZE, 2, MULTIPLE)
        large = resize >= max(model.IMAGE_SIZE)
        self.require(large, "INPUT.RESIZE", f"at least MODEL.IMAGE_SIZE, {model.IMAGE_SIZE}", resize)
        self.one_of("INPUT.RESIZER", self.config.INPUT.RESIZER, RESIZERS)
        self.one_of("INPUT.INTERPOLATION", self.config.INPUT.INTERPOLATION, INTERPOLATIONS)
        self.percent("TOP1", "TOP5")
        self.training("BATCH_SIZE_PER_GPU")
        self.count("TEST.BATCH_SIZE_PER_GPU", self.config.TEST.BATCH_SIZE_PER_GPU)
        scale = self.config.TRAIN.CROP_SCALE
        valid = _are_numbers(scale, 2) and 0 < scale[0] <= scale[1] <= 1
        self.require(valid, "TRAIN.CROP_SCALE", "two fractions above 0 and up to 1, the smaller one first", scale)

    def onnx(self) -> None:
        model, resize = self.config.MODEL, self.config.INPUT.RESIZE
        if model.NUM_CLASSES != 0:
            self.count("MODEL.NUM_CLASSES", model.NUM_CLASSES)
            check_class_names(self.config, self.path)
        if model.IMAGE_SIZE != []:
            self.counts("MODEL.IMAGE_SIZE", model.IMAGE_SIZE, 2)
        if resize != 0:
            self.count("INPUT.RESIZE", resize)
            large = resize >= max(model.IMAGE_SIZE, default=0)
            self.require(large, "INPUT.RESIZE", f"at least MODEL.IMAGE_SIZE, {model.IMAGE_SIZE}", resize)
        self.percent("TOP1", "TOP5")

    def training(self, batch_key: str) -> None:
        train = self.config.TRAIN
        self.count(f"TRAIN.{batch_key}", train[batch_key])
        self.count("TRAIN.END_EPOCH", train.END_EPOCH)
        self.count("PRINT_FREQ", self.config.PRINT_FREQ)
        self.one_of("TRAIN.OPTIMIZER", train.OPTIMIZER, ("sgd", "adam"))
        self.require(_is_number(train.LR) and train.LR > 0, "TRAIN.LR", "a number above 0", train.LR)
        steps = isinstance(train.LR_STEP, (list, tuple)) and all(map(_is_positive_int, train.LR_STEP))
        self.require(steps, "TRAIN.LR_STEP", "a list of positive integers", train.LR_STEP)
        self.require(0 <= train.MOMENTUM < 1, "TRAIN.MOMENTUM", "a number of at least 0 and below 1", train.MOMENTUM)
        self.require(train.WD >= 0, "TRAIN.WD", "a number of at least 0", train.WD)
        self.require(train.LR_FACTOR > 0, "TRAIN.LR_FACTOR", "a number above 0", train.LR_FACTOR)
        self.require(self.config.WORKERS >= 0, "WORKERS", "an integer of at least 0", self.config.WORKERS)

    def pose(self) -> None:
        config, deconv = self.config, self.config.MODEL.EXTRA.DECONV
        joints = config.MODEL.NUM_JOINTS
        self.require(joints == COUNT and _is_positive_int(joints), "MODEL.NUM_JOINTS", f"{COUNT}, as in COCO", joints)
        center = config.DATASET.WITH_CENTER
        self.require(center is False, "DATASET.WITH_CENTER", "False", center)
        self.count("MODEL.EXTRA.DECONV.NUM_DECONVS", deconv.NUM_DECONVS)
        self.count("MODEL.EXTRA.DECONV.NUM_BASIC_BLOCKS", deconv.NUM_BASIC_BLOCKS)
        self.counts("MODEL.EXTRA.DECONV.NUM_CHANNELS", deconv.NUM_CHANNELS, deconv.NUM_DECONVS)
        self.counts("MODEL.EXTRA.DECONV.KERNEL_SIZE", deconv.KERNEL_SIZE, deconv.NUM_DECONVS)
        self.booleans("MODEL.EXTRA.DECONV.CAT_OUTPUT", deconv.CAT_OUTPUT, deconv.NUM_DECONVS)
        self.booleans("LOSS.WITH_AE_LOSS", config.LOSS.WITH_AE_LOSS, deconv.NUM_DECONVS + 1)
        self.kernels("MODEL.EXTRA.DECONV.KERNEL_SIZE", deconv.KERNEL_SIZE, (2, 3, 4))
        self.kernels("MODEL.EXTRA.FINAL_CONV_KERNEL", [config.MODEL.EXTRA.FINAL_CONV_KERNEL], (1, 3))
        self.count("DATASET.INPUT_SIZE", config.DATASET.INPUT_SIZE, MULTIPLE)
        if config.INPUT.GEARS != []:
            check_gears(config.INPUT.GEARS, config.DATASET.INPUT_SIZE, self.path, "INPUT.GEARS")
        self.training("IMAGES_PER_GPU")
        data = config.DATASET
        self.count("DATASET.MAX_NUM_PEOPLE", data.MAX_NUM_PEOPLE)
        self.require(0 <= data.FLIP <= 1, "DATASET.FLIP", "a probability from 0 to 1", data.FLIP)
        scales = 0 < data.MIN_SCALE <= data.MAX_SCALE
        self.require(scales, "DATASET.MIN_SCALE", "above 0, at most MAX_SCALE", [data.MIN_SCALE, data.MAX_SCALE])
        self.percent("AP")
        for key, expected in POSE_TEST.items():
            found = config.TEST[key]
            same = (list(found) if isinstance(found, tuple) else found) == expected
            self.require(same, f"TEST.{key}", str(expected), found)

    def kernels(self, name: str, sizes: list[int], known: tuple[int, ...]) -> None:
        self.require(set(sizes) <= set(known), name, " or ".join(map(str, known)), sizes)

    def booleans(self, name: str, values: Any, length: int) -> None:
        valid = values and len(values) == length and all(isinstance(value, bool) for value in values)
        self.require(valid, name, f"{length} booleans", values)

    def percent(self, *names: str) -> None:
        for name in names:
            value = self.config.REFERENCE[name]
            self.require(0 <= value <= 100, f"REFERENCE.{name}", "a percentage from 0 to 100", value)
        images = self.config.REFERENCE.IMAGES  # the gate compares the figure only with as many images
        known = images > 0 if self.config.REFERENCE[names[0]] else images >= 0
        self.require(known, "REFERENCE.IMAGES", f"the number of images that {names[0]} was measured on", images)

    def common(self) -> None:
        values = self.config.INPUT
        for name in ("MEAN", "STD"):
            self.require(_are_numbers(values[name], 3), f"INPUT.{name}", "3 numbers", values[name])
        self.require(
            max(values.MEAN) <= 1, "INPUT.MEAN", "3 numbers for pixels scaled to 0..1: divide by 255", values.MEAN
        )
        self.require(min(values.STD) > 0, "INPUT.STD", "3 numbers above 0", values.STD)

    def weights(self) -> None:
        weights = self.config.WEIGHTS
        self.require(isinstance(weights.URL, str), "WEIGHTS.URL", "a URL as text", weights.URL)
        digits = re.fullmatch("([0-9a-fA-F]{32})?", str(weights.MD5)) is not None
        self.require(digits, "WEIGHTS.MD5", "32 hex digits", weights.MD5)


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a YAML value is null, text, a boolean, a number up to LARGEST, or a list of them (up to `depth` deep)."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: Any, length: int) -> bool:
    return bool(values) and len(values) == length and all(map(_is_number, values))


def config_sha256(config: CfgNode) -> str:
    """Hash of the keys that define the model and its input: MODEL and INPUT, and for pose also DATASET.INPUT_SIZE and
    LOSS.WITH_AE_LOSS. Training keys, such as the learning rate, and the names of the classes are not included."""
    content = {"MODEL": _plain(config.MODEL), "INPUT": _plain(config.INPUT)}
    content["INPUT"].pop("CLASS_NAMES", None)
    if config.MODEL.NAME == POSE:
        content["DATASET"] = {"INPUT_SIZE": config.DATASET.INPUT_SIZE}
        content["LOSS"] = {"WITH_AE_LOSS": list(config.LOSS.WITH_AE_LOSS)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
