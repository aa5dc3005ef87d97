"""Checks of a config's values that yacs does not do: a rule for each key, and then rules for several keys.

A key has one rule, which holds for all kinds of models; KIND_RULES lists the few that differ. A key without a rule
raises KeyError: a bug of this project.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.gears import check_gears
from hrnet.hints import nearest
from hrnet.io.files import AnyPath
from hrnet.pose.joints import COUNT
from hrnet.schemas import CLASSIFICATION, IGNORED, INTERPOLATIONS, ONNX, POSE, POSE_TEST, RESIZERS, SCHEMAS

MULTIPLE = 32  # pixels; height and width must be multiples of it: the last branch has 1/32 of the resolution
CROP = 0.875  # side of the crop, as a share of the resized short side: the usual value for ImageNet
IMAGES = {"TOP1": "50000 for ImageNet's validation images", "AP": "5000 for COCO's val2017"}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# The only values with which people can be decoded: output1 has 17 heatmaps and 17 tag maps, output2 has 17 heatmaps
DECODABLE: dict[str, Any] = {
    "MODEL.TAG_PER_JOINT": True,
    "MODEL.EXTRA.DECONV.NUM_DECONVS": 1,
    "LOSS.WITH_AE_LOSS": [True, False],
}


class Rule(NamedTuple):
    """What a key's value must be."""

    valid: Callable[[Any], bool]
    expected: str
    known: tuple[str, ...] = ()  # the legal values, if there are few


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any, unit: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and value % unit == 0


def is_list_of(valid: Callable[[Any], bool], value: Any, length: Optional[int] = None) -> bool:
    return isinstance(value, (list, tuple)) and length in (None, len(value)) and all(map(valid, value))


def count(unit: int = 1) -> Rule:
    return Rule(lambda value: is_count(value, unit), f"a positive {'integer' if unit == 1 else f'multiple of {unit}'}")


def counts(length: int, unit: int = 1) -> Rule:
    units = "integers" if unit == 1 else f"multiples of {unit}"
    return Rule(
        lambda value: is_list_of(lambda each: is_count(each, unit), value, length), f"{length} positive {units}"
    )


def one_of(*known: str) -> Rule:
    return Rule(lambda value: value in known, " or ".join(known), known)


def number(valid: Callable[[float], bool], expected: str) -> Rule:
    return Rule(lambda value: is_number(value) and valid(value), expected)


def only(required: Any) -> Rule:
    """The only supported value; a tuple is equal to a list."""
    return Rule(lambda value: (list(value) if isinstance(value, tuple) else value) == required, str(required))


BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false")
TEXT = Rule(lambda value: isinstance(value, str), "text")
NAME = Rule(lambda value: isinstance(value, str) and value != "", "a name")
NOT_NEGATIVE = number(lambda value: value >= 0, "a number of at least 0")
POSITIVE = number(lambda value: value > 0, "a number above 0")
PERCENT = number(lambda value: value == 0 or 1 < value <= 100, "a percentage above 1 and up to 100, or 0 if unknown")
WEIGHTS = Rule(lambda value: is_list_of(NOT_NEGATIVE.valid, value), "a list of numbers of at least 0")
BOOLEANS = Rule(lambda value: is_list_of(BOOLEAN.valid, value), "a list of true and false")
COUNTS = Rule(lambda value: is_list_of(is_count, value), "a list of positive integers")


def _stage(branches: int) -> dict[str, Rule]:
    """The rules for a stage with this number of branches."""
    rules = {
        "NUM_BRANCHES": only(branches),
        "NUM_MODULES": count(),
        "NUM_BLOCKS": counts(branches),
        "NUM_CHANNELS": counts(branches),
        "BLOCK": one_of("BASIC", "BOTTLENECK"),
        "FUSE_METHOD": only("SUM"),
    }
    return {f"MODEL.EXTRA.STAGE{branches}.{name}": rule for name, rule in rules.items()}


RULES: dict[str, Rule] = {
    "MODEL.NAME": one_of(*SCHEMAS),
    "MODEL.NUM_CLASSES": count(),
    "MODEL.NUM_JOINTS": Rule(lambda value: is_count(value) and value == COUNT, f"{COUNT}, as in COCO"),
    "MODEL.IMAGE_SIZE": counts(2, MULTIPLE),
    "MODEL.PRETRAINED": TEXT,
    "MODEL.TAG_PER_JOINT": BOOLEAN,
    "MODEL.EXTRA.STEM_INPLANES": count(),
    **{name: rule for branches in range(1, 5) for name, rule in _stage(branches).items()},
    "MODEL.EXTRA.HEAD.CHANNELS": counts(4),
    "MODEL.EXTRA.HEAD.FEATURES": count(),
    "MODEL.EXTRA.SQUEEZE_EXCITE": BOOLEAN,
    "MODEL.EXTRA.PRETRAINED_LAYERS": Rule(lambda value: is_list_of(NAME.valid, value), "a list of names"),
    "MODEL.EXTRA.FINAL_CONV_KERNEL": Rule(lambda value: is_count(value) and value in (1, 3), "1 or 3"),
    "MODEL.EXTRA.DECONV.NUM_DECONVS": count(),
    "MODEL.EXTRA.DECONV.NUM_BASIC_BLOCKS": count(),
    "MODEL.EXTRA.DECONV.NUM_CHANNELS": COUNTS,
    "MODEL.EXTRA.DECONV.KERNEL_SIZE": Rule(
        lambda value: is_list_of(lambda each: is_count(each) and each in (2, 3, 4), value), "a list of 2, 3 or 4"
    ),
    "MODEL.EXTRA.DECONV.CAT_OUTPUT": BOOLEANS,
    "LOSS.WITH_HEATMAPS_LOSS": BOOLEANS,
    "LOSS.HEATMAPS_LOSS_FACTOR": WEIGHTS,
    "LOSS.WITH_AE_LOSS": BOOLEANS,
    "LOSS.AE_LOSS_TYPE": one_of("exp", "max"),
    "LOSS.PUSH_LOSS_FACTOR": WEIGHTS,
    "LOSS.PULL_LOSS_FACTOR": WEIGHTS,
    "DATASET.TRAIN": NAME,
    "DATASET.TEST": NAME,
    "DATASET.INPUT_SIZE": count(MULTIPLE),
    "DATASET.MAX_NUM_PEOPLE": count(),
    "DATASET.MAX_ROTATION": NOT_NEGATIVE,
    "DATASET.MIN_SCALE": POSITIVE,
    "DATASET.MAX_SCALE": POSITIVE,
    "DATASET.SCALE_TYPE": one_of("short", "long"),
    "DATASET.MAX_TRANSLATE": NOT_NEGATIVE,
    "DATASET.FLIP": number(lambda value: 0 <= value <= 1, "a probability from 0 to 1"),
    "DATASET.SIGMA": number(lambda value: value != 0, "a number above 0, or negative for 1/64 of the heatmap's side"),
    "DATASET.SCALE_AWARE_SIGMA": BOOLEAN,
    "DATASET.BASE_SIZE": POSITIVE,
    "DATASET.BASE_SIGMA": POSITIVE,
    "DATASET.INT_SIGMA": BOOLEAN,
    "DATASET.WITH_CENTER": Rule(lambda value: value is False, "False"),
    "TRAIN.OPTIMIZER": one_of("sgd", "adam"),
    "TRAIN.LR": POSITIVE,
    "TRAIN.LR_FACTOR": POSITIVE,
    "TRAIN.LR_STEP": COUNTS,
    "TRAIN.MOMENTUM": number(lambda value: 0 <= value < 1, "a number of at least 0 and below 1"),
    "TRAIN.NESTEROV": BOOLEAN,
    "TRAIN.WD": NOT_NEGATIVE,
    "TRAIN.END_EPOCH": count(),
    "TRAIN.BATCH_SIZE_PER_GPU": count(),
    "TRAIN.IMAGES_PER_GPU": count(),
    "TRAIN.CROP_SCALE": Rule(
        lambda value: is_list_of(is_number, value, 2) and 0 < value[0] <= value[1] <= 1,
        "two fractions above 0 and up to 1, the smaller one first",
    ),
    "TEST.BATCH_SIZE_PER_GPU": count(),
    "TEST.ADJUST": BOOLEAN,
    "TEST.REFINE": BOOLEAN,
    "TEST.DETECTION_THRESHOLD": NOT_NEGATIVE,
    "TEST.TAG_THRESHOLD": NOT_NEGATIVE,
    "TEST.USE_DETECTION_VAL": BOOLEAN,
    "TEST.IGNORE_TOO_MUCH": BOOLEAN,
    **{f"TEST.{name}": only(required) for name, required in POSE_TEST.items()},
    "FP16.ENABLED": BOOLEAN,
    "WORKERS": Rule(lambda value: value == 0 or is_count(value), "an integer of at least 0"),
    "PRINT_FREQ": count(),
    "INPUT.MEAN": Rule(lambda value: is_list_of(is_number, value, 3), "3 numbers"),
    "INPUT.STD": Rule(lambda value: is_list_of(POSITIVE.valid, value, 3), "3 numbers above 0"),
    "INPUT.RESIZE": count(),
    "INPUT.RESIZER": one_of(*RESIZERS),
    "INPUT.INTERPOLATION": one_of(*INTERPOLATIONS),
    "INPUT.CLASS_NAMES": Rule(
        lambda value: is_list_of(TEXT.valid, value), "a text file with one name per line, or a list of names in quotes"
    ),
    "INPUT.GEARS": Rule(lambda value: isinstance(value, (list, tuple)), "a list of [height, width]"),
    "REFERENCE.TOP1": PERCENT,
    "REFERENCE.TOP5": PERCENT,
    "REFERENCE.AP": PERCENT,
    "REFERENCE.IMAGES": Rule(lambda value: value == 0 or is_count(value), "a number of images"),
    "REFERENCE.PARAMS_M": NOT_NEGATIVE,
    "REFERENCE.SOURCE": TEXT,
    "WEIGHTS.URL": TEXT,
    "WEIGHTS.MD5": Rule(lambda value: re.fullmatch("([0-9a-fA-F]{32})?", str(value)) is not None, "32 hex digits"),
}
KIND_RULES: dict[str, dict[str, Rule]] = {
    CLASSIFICATION: {"DATASET.FLIP": BOOLEAN},
    POSE: {},
    ONNX: {  # the config may leave these values out, since atc.classifier adds them
        "MODEL.NUM_CLASSES": Rule(lambda value: value == 0 or is_count(value), "a positive integer"),
        "MODEL.IMAGE_SIZE": Rule(
            lambda value: value == [] or is_list_of(is_count, value, 2), "2 positive integers, width and height"
        ),
        "INPUT.RESIZE": Rule(lambda value: value == 0 or is_count(value), "a positive integer"),
    },
}


def check_values(config: CfgNode, path: Path) -> None:
    """Raise UserError for an invalid value of the config `path`, or for values that contradict each other."""
    kind = config.MODEL.NAME
    for name, value in leaves(config):
        if name in IGNORED[kind]:
            continue
        rule = KIND_RULES[kind].get(name) or RULES[name]
        if not rule.valid(value):
            raise UserError(
                f"invalid {name}", where=path, expected=rule.expected, found=value, hint=_hint(name, value, rule)
            )
    _check_scale_of_pixels(config, path)
    _check_reference(config.REFERENCE, path)
    if kind == POSE:
        _check_pose(config, path)
    else:
        _check_sizes(config, path)
        if config.MODEL.NUM_CLASSES:
            check_class_names(config, path)


def check_decodable(config: CfgNode, path: AnyPath) -> None:
    """Raise UserError if people cannot be decoded from the outputs of the network of the pose config `path`."""
    values = dict(leaves(config))
    for name, required in DECODABLE.items():
        found = list(values[name]) if isinstance(required, list) else values[name]
        if found != required:
            hint = "only training and export support other values"
            what = f"people cannot be decoded with this {name}"
            raise UserError(what, where=path, expected=required, found=found, hint=hint)


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The full names and values of all keys."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _hint(name: str, value: Any, rule: Rule) -> Optional[str]:
    group, _, key = name.rpartition(".")
    if group == "TEST" and key in POSE_TEST:
        return f"write {key}: {rule.expected} below TEST; without this line, upstream's default is used"
    if rule is PERCENT and is_number(value) and 0 < value <= 1:
        return f"this is a fraction; write {key}: {100 * value:g}"
    if isinstance(value, str) and (near := nearest(value, rule.known)):
        return f"did you mean {near}?"
    return as_list(key, value)


def as_list(key: str, value: Any) -> Optional[str]:
    """A hint for a list of numbers in which commas are missing, or whose numbers are in quotes; else None."""
    items = value if isinstance(value, (list, tuple)) else [value]
    words = " ".join(map(str, items)).replace(",", " ").split()
    if not any(isinstance(item, str) for item in items) or len(words) < 2 or not all(map(NUMBER.fullmatch, words)):
        return None
    commas = any(isinstance(item, str) and len(item.split()) > 1 for item in items)
    return f"{'commas are missing' if commas else 'numbers are in quotes'}: write {key}: [{', '.join(words)}]"


def _check_scale_of_pixels(config: CfgNode, path: Path) -> None:
    for name in ("MEAN", "STD"):
        values = config.INPUT[name]
        if max(values) > 1:
            expected = "3 numbers for pixels scaled to 0..1: divide by 255"
            raise UserError(f"invalid INPUT.{name}", where=path, expected=expected, found=values)


def _check_reference(reference: CfgNode, path: Path) -> None:
    figure = "AP" if "AP" in reference else "TOP1"  # the one that is judged
    if reference.get("TOP5") and not reference.TOP1:
        hint = "add REFERENCE.TOP1, which the verdict compares"
        raise UserError("REFERENCE.TOP5 without REFERENCE.TOP1", where=path, hint=hint)
    if reference.get("TOP5") and reference.TOP5 < reference.TOP1:
        expected = f"at least REFERENCE.TOP1, {reference.TOP1:g}"
        raise UserError("invalid REFERENCE.TOP5", where=path, expected=expected, found=reference.TOP5)
    if reference[figure] and not reference.IMAGES:  # a run over another number of images is not judged
        expected = f"the number of images that {figure} was measured on"
        hint = f"add IMAGES below REFERENCE: {IMAGES[figure]}"
        raise UserError("REFERENCE.IMAGES is missing", where=path, expected=expected, hint=hint)


def _check_sizes(config: CfgNode, path: Path) -> None:
    resize, size = config.INPUT.RESIZE, list(config.MODEL.IMAGE_SIZE)
    if resize and size and resize < max(size):
        raise too_small(resize, size, path)


def too_small(resize: int, size: list[int], path: AnyPath, given: bool = True) -> UserError:
    """The error for INPUT.RESIZE below a side of the image. `size`: width and height, pixels; `given`: the
    config has the key."""
    expected = f"at least the longer side of the image, {' x '.join(map(str, size))} pixels"
    verb = "raise" if given else "add"
    hint = f"{verb} it, for example INPUT.RESIZE: {usual_resize(max(size))}, floor({max(size)} / {CROP})"
    return UserError("INPUT.RESIZE is too small", where=path, expected=expected, found=resize, hint=hint)


def usual_resize(side: int) -> int:
    return int(side / CROP)


def check_class_names(config: CfgNode, path: AnyPath) -> None:
    """Raise UserError unless INPUT.CLASS_NAMES is empty or has a name for each of MODEL.NUM_CLASSES classes."""
    names, classes = config.INPUT.CLASS_NAMES, config.MODEL.NUM_CLASSES
    if names and len(names) != classes:
        expected = f"{classes} names, since MODEL.NUM_CLASSES is {classes}"
        raise UserError("wrong number of INPUT.CLASS_NAMES", where=path, expected=expected, found=len(names))


def _check_pose(config: CfgNode, path: Path) -> None:
    deconv, data = config.MODEL.EXTRA.DECONV, config.DATASET
    lengths = {f"MODEL.EXTRA.DECONV.{name}": deconv for name in ("NUM_CHANNELS", "KERNEL_SIZE", "CAT_OUTPUT")}
    for name, node in {**lengths, "LOSS.WITH_AE_LOSS": config.LOSS}.items():
        outputs = deconv.NUM_DECONVS + (node is config.LOSS)
        values = node[name.rpartition(".")[2]]
        if len(values) != outputs:
            expected = f"{outputs} values, since NUM_DECONVS is {deconv.NUM_DECONVS}"
            raise UserError(f"invalid {name}", where=path, expected=expected, found=values)
    if data.MIN_SCALE > data.MAX_SCALE:
        expected, found = "above 0, at most MAX_SCALE", [data.MIN_SCALE, data.MAX_SCALE]
        raise UserError("invalid DATASET.MIN_SCALE", where=path, expected=expected, found=found)
    if config.INPUT.GEARS != []:
        check_gears(config.INPUT.GEARS, data.INPUT_SIZE, path, "INPUT.GEARS")
