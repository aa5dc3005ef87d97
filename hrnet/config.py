"""Model configs: the yacs keys of the upstream experiment files, plus our own, in a strict schema.

A user's own `cls_hrnet_w18_sgd_lr5e-2_wd1e-4_bs32_x100.yaml` or `w32_512_adam_lr1e-3.yaml` loads unchanged; MODEL.NAME
says which schema of hrnet/schemas.py is meant. A key that it does not know is an error that names it (upstream's own
schemas let any key through below MODEL.EXTRA).
"""

from __future__ import annotations

import argparse
import difflib
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
from hrnet.io.files import AnyPath
from hrnet.pose.joints import COUNT
from hrnet.schemas import CLASSIFICATION, IGNORED, ONNX, POSE, SCHEMAS

CONFIGS = Path(os.path.relpath(Path(__file__).resolve().parent.parent / "configs"))

LARGEST = 2**31 - 1  # of a number
MULTIPLE = 32  # of the input's sides, pixels: the lowest branch has 1/32 of the resolution

# yacs warns at each load of an upstream file about the misspelt key that all of classification have.
logging.getLogger("yacs.config").setLevel(logging.ERROR)


def config_path(model: str) -> Path:
    """The YAML of a model: a name in `configs/`, or a path of one's own that ends in .yaml."""
    return Path(model) if model.endswith((".yaml", ".yml")) else CONFIGS / f"{model}.yaml"


def add_cfg_argument(parser: argparse.ArgumentParser, default: Optional[str] = None) -> None:
    """`--cfg`, as every script has it: a Path to a YAML file."""
    text = "model: a name in configs/, or the path of a YAML file" + (" (%(default)s)" if default else "")
    parser.add_argument("--cfg", type=config_path, required=default is None, default=default, help=text)


def load_config(path: AnyPath, *kinds: str, complete: bool = True) -> CfgNode:
    """Read one model's YAML over the defaults of its schema, that of MODEL.NAME (classification where there is none);
    the result is frozen. `kinds`: the values of MODEL.NAME that the caller can work with (default: all). `complete`: of
    an ONNX classifier, require what `atc.classifier` reads from its file.

    Raises UserError when the file is missing, is no YAML mapping or of another kind, has a key that the schema does not
    know (named, with the nearest known one), a value of another type, or branches that contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = difflib.get_close_matches(path.stem, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known configs there: {', '.join(known) or 'none'}"
        raise UserError("no such config", where=path, hint=hint)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(values, dict):
        raise UserError("not a config", where=path, expected="a YAML mapping", found=type(values).__name__)
    schema = _schema(values, path, kinds or tuple(SCHEMAS))
    ignored = []
    for name, value in _fit(values, schema, path, ""):
        if name in IGNORED[schema.MODEL.NAME]:
            ignored.append(name)
        elif value is None:
            raise UserError(f"{name} has no value", where=path, hint="leave the key out to use its default")
    if ignored:
        print(f"{path}: keys without effect here: {', '.join(ignored)}", file=sys.stderr)
    _fill_in_gears(values, schema, path)
    try:
        schema.merge_from_other_cfg(CfgNode(values))
    except (ValueError, KeyError) as error:
        raise UserError(" ".join(str(error.args[0]).split()), where=path) from None
    _Check(schema, path).all()
    if complete and schema.MODEL.NAME == ONNX and not is_complete(schema):
        hint = (
            f"make eval CFG={path} ONNX=<file>, or python -m atc.classifier --cfg {path} --model <file> --output <YAML>"
        )
        what = "a config of an ONNX file without its size and classes"
        raise UserError(what, where=path, expected="MODEL.IMAGE_SIZE, MODEL.NUM_CLASSES and INPUT.RESIZE", hint=hint)
    schema.freeze()
    return schema


def is_complete(config: CfgNode) -> bool:
    """Whether the config of an ONNX classifier has what `atc.classifier` fills in."""
    return bool(config.MODEL.IMAGE_SIZE and config.MODEL.NUM_CLASSES and config.INPUT.RESIZE)


def _schema(values: dict[str, Any], path: Path, known: tuple[str, ...]) -> CfgNode:
    """The schema of the kind that MODEL.NAME says."""
    model = values.get("MODEL")
    name = model.get("NAME", CLASSIFICATION) if isinstance(model, dict) else CLASSIFICATION
    if name not in known:
        raise UserError("MODEL.NAME", where=path, expected=" or ".join(known), found=name)
    return SCHEMAS[name]()


def _fit(values: dict[str, Any], schema: CfgNode, path: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """The names and values of all keys that are set. Raises UserError for an unknown one, and for a value that no key
    has; lets an integer stand for a float (`LR: 1`), which yacs refuses."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if schema.key_is_deprecated(name) or name == "MODEL.EXTRA.STAGE1.NUM_RANCHES":
            continue
        if key not in schema:
            near = difflib.get_close_matches(str(key), list(schema), n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys there: {', '.join(sorted(schema))}"
            raise UserError(f"unknown key {name}", where=path, hint=hint)
        default = schema[key]
        if isinstance(default, CfgNode):
            if not isinstance(value, dict):
                raise UserError(f"{name} is not a mapping", where=path, found=repr(value))
            yield from _fit(value, default, path, f"{name}.")
            continue
        if not _is_plain(value):
            expected = f"numbers up to {LARGEST}, text, true, false, or lists of them"
            raise UserError(name, where=path, expected=expected, found=repr(value)[:80])
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            values[key] = float(value)
        yield name, value


def _fill_in_gears(values: dict[str, Any], schema: CfgNode, path: Path) -> None:
    """Put the gears of a file that INPUT.GEARS names, relative to the config, in the place of its name."""
    named = values.get("INPUT", {}).get("GEARS")
    if isinstance(named, str):
        short = values.get("DATASET", {}).get("INPUT_SIZE", schema.DATASET.INPUT_SIZE)
        values["INPUT"]["GEARS"] = [list(gear) for gear in read_gears(path.parent / named, short)]


class _Check:
    """What yacs' types do not say: numbers of values, their kind and range. yacs lets null pass for any type."""

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

    def require(self, right: bool, name: str, expected: str, found: object) -> None:
        if not right:
            raise UserError(name, where=self.path, expected=expected, found=found)

    def counts(self, name: str, values: Any, length: int, unit: int = 1) -> None:
        """Require `length` multiples of `unit`, above 0."""
        expected = f"{length} whole numbers from {unit}" if unit == 1 else f"{length} multiples of {unit}"
        right = isinstance(values, (list, tuple)) and len(values) == length
        self.require(right and all(_is_count(value) and value % unit == 0 for value in values), name, expected, values)

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
            known = stage.BLOCK in ("BASIC", "BOTTLENECK")
            self.require(known, f"{name}.BLOCK", "BASIC or BOTTLENECK", stage.BLOCK)
            self.require(stage.FUSE_METHOD == "SUM", f"{name}.FUSE_METHOD", "SUM", stage.FUSE_METHOD)

    def classification(self) -> None:
        model, resize = self.config.MODEL, self.config.INPUT.RESIZE
        self.counts("MODEL.EXTRA.HEAD.CHANNELS", model.EXTRA.HEAD.CHANNELS, 4)
        self.count("MODEL.EXTRA.HEAD.FEATURES", model.EXTRA.HEAD.FEATURES)
        self.count("MODEL.NUM_CLASSES", model.NUM_CLASSES)
        self.count("INPUT.RESIZE", resize)
        self.counts("MODEL.IMAGE_SIZE", model.IMAGE_SIZE, 2, MULTIPLE)
        large = resize >= max(model.IMAGE_SIZE)
        self.require(large, "INPUT.RESIZE", f"at least MODEL.IMAGE_SIZE, {model.IMAGE_SIZE}", resize)
        self.percent("TOP1", "TOP5")
        self.training("BATCH_SIZE_PER_GPU")
        self.count("TEST.BATCH_SIZE_PER_GPU", self.config.TEST.BATCH_SIZE_PER_GPU)
        scale = self.config.TRAIN.CROP_SCALE
        right = _are_numbers(scale, 2) and 0 < scale[0] <= scale[1] <= 1
        self.require(right, "TRAIN.CROP_SCALE", "two shares, above 0 and up to 1, the smaller one first", scale)

    def onnx(self) -> None:
        model, resize = self.config.MODEL, self.config.INPUT.RESIZE
        if model.NUM_CLASSES != 0:
            self.count("MODEL.NUM_CLASSES", model.NUM_CLASSES)
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
        self.require(train.OPTIMIZER in ("sgd", "adam"), "TRAIN.OPTIMIZER", "sgd or adam", train.OPTIMIZER)
        self.require(_is_number(train.LR) and train.LR > 0, "TRAIN.LR", "a number above 0", train.LR)
        steps = isinstance(train.LR_STEP, (list, tuple)) and all(map(_is_count, train.LR_STEP))
        self.require(steps, "TRAIN.LR_STEP", "whole numbers from 1", train.LR_STEP)
        self.require(0 <= train.MOMENTUM < 1, "TRAIN.MOMENTUM", "from 0 to below 1", train.MOMENTUM)
        self.require(train.WD >= 0, "TRAIN.WD", "a number from 0", train.WD)
        self.require(train.LR_FACTOR > 0, "TRAIN.LR_FACTOR", "a number above 0", train.LR_FACTOR)
        self.require(self.config.WORKERS >= 0, "WORKERS", "a whole number from 0", self.config.WORKERS)

    def pose(self) -> None:
        config, deconv = self.config, self.config.MODEL.EXTRA.DECONV
        joints = config.MODEL.NUM_JOINTS
        self.require(joints == COUNT and _is_count(joints), "MODEL.NUM_JOINTS", f"{COUNT}, COCO's keypoints", joints)
        center = config.DATASET.WITH_CENTER
        self.require(center is False, "DATASET.WITH_CENTER", "False", center)
        self.count("MODEL.EXTRA.DECONV.NUM_DECONVS", deconv.NUM_DECONVS)
        self.count("MODEL.EXTRA.DECONV.NUM_BASIC_BLOCKS", deconv.NUM_BASIC_BLOCKS)
        self.counts("MODEL.EXTRA.DECONV.NUM_CHANNELS", deconv.NUM_CHANNELS, deconv.NUM_DECONVS)
        self.counts("MODEL.EXTRA.DECONV.KERNEL_SIZE", deconv.KERNEL_SIZE, deconv.NUM_DECONVS)
        self.switches("MODEL.EXTRA.DECONV.CAT_OUTPUT", deconv.CAT_OUTPUT, deconv.NUM_DECONVS)
        self.switches("LOSS.WITH_AE_LOSS", config.LOSS.WITH_AE_LOSS, deconv.NUM_DECONVS + 1)
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

    def kernels(self, name: str, sizes: list[int], known: tuple[int, ...]) -> None:
        self.require(set(sizes) <= set(known), name, " or ".join(map(str, known)), sizes)

    def switches(self, name: str, values: Any, length: int) -> None:
        right = values and len(values) == length and all(isinstance(value, bool) for value in values)
        self.require(right, name, f"{length} times True or False", values)

    def percent(self, *names: str) -> None:
        for name in names:
            value = self.config.REFERENCE[name]
            self.require(0 <= value <= 100, f"REFERENCE.{name}", "percent", value)

    def common(self) -> None:
        values = self.config.INPUT
        for name in ("MEAN", "STD"):
            self.require(_are_numbers(values[name], 3), f"INPUT.{name}", "3 numbers", values[name])
        self.require(min(values.STD) > 0, "INPUT.STD", "3 numbers above 0", values.STD)

    def weights(self) -> None:
        weights = self.config.WEIGHTS
        self.require(isinstance(weights.URL, str), "WEIGHTS.URL", "a URL, or nothing at all", weights.URL)
        digits = re.fullmatch("([0-9a-fA-F]{32})?", str(weights.MD5)) is not None
        self.require(digits, "WEIGHTS.MD5", "32 hex digits", weights.MD5)


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Not a date, bytes, a mapping, an infinite number or one beyond all sizes; lists at most `depth` deep."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: Any, length: int) -> bool:
    return bool(values) and len(values) == length and all(map(_is_number, values))


def config_sha256(config: CfgNode) -> str:
    """Hash of what shapes the model and its input: MODEL and INPUT, and for pose two keys more. A changed learning rate
    does not change it."""
    content = {"MODEL": _plain(config.MODEL), "INPUT": _plain(config.INPUT)}
    if config.MODEL.NAME == POSE:
        content["DATASET"] = {"INPUT_SIZE": config.DATASET.INPUT_SIZE}
        content["LOSS"] = {"WITH_AE_LOSS": list(config.LOSS.WITH_AE_LOSS)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
