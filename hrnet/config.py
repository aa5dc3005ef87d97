"""Model configs: the yacs keys of the upstream experiment files, plus our own, in a strict schema.

A user's own `cls_hrnet_w18_sgd_lr5e-2_wd1e-4_bs32_x100.yaml` loads unchanged; a key that the schema does not know is
an error that names it (upstream's own schema lets any key through below MODEL.EXTRA).

Schema: https://github.com/HRNet/HRNet-Image-Classification lib/config/default.py, commit f130a24.
Ours are MODEL.EXTRA.HEAD, MODEL.EXTRA.SQUEEZE_EXCITE, INPUT, REFERENCE and WEIGHTS.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.files import AnyPath

CONFIGS = Path(os.path.relpath(Path(__file__).resolve().parent.parent / "configs"))

# yacs warns at each load of an upstream file about the misspelt key that all of them have (see _schema).
logging.getLogger("yacs.config").setLevel(logging.ERROR)


def _stage(modules: int, branches: int, block: str, blocks: list[int], channels: list[int]) -> CfgNode:
    return CfgNode(
        {
            "NUM_MODULES": modules,
            "NUM_BRANCHES": branches,
            "BLOCK": block,  # BASIC or BOTTLENECK
            "NUM_BLOCKS": blocks,  # residual blocks in each branch
            "NUM_CHANNELS": channels,  # width of each branch
            "FUSE_METHOD": "SUM",
        }
    )


def _schema() -> CfgNode:
    schema = CfgNode()
    schema.GPUS = (0,)
    schema.LOG_DIR = ""
    schema.DATA_DIR = ""
    schema.OUTPUT_DIR = ""
    schema.WORKERS = 4
    schema.PRINT_FREQ = 20
    schema.AUTO_RESUME = False
    schema.PIN_MEMORY = True
    schema.RANK = 0
    schema.CUDNN = CfgNode({"BENCHMARK": True, "DETERMINISTIC": False, "ENABLED": True})

    schema.MODEL = CfgNode()
    schema.MODEL.NAME = "cls_hrnet"
    schema.MODEL.INIT_WEIGHTS = True
    schema.MODEL.PRETRAINED = ""
    schema.MODEL.NUM_CLASSES = 1000
    schema.MODEL.NUM_JOINTS = 17
    schema.MODEL.TAG_PER_JOINT = True
    schema.MODEL.TARGET_TYPE = "gaussian"
    schema.MODEL.IMAGE_SIZE = [224, 224]  # width, height of the network's input, pixels
    schema.MODEL.HEATMAP_SIZE = [64, 64]
    schema.MODEL.SIGMA = 2
    extra = schema.MODEL.EXTRA = CfgNode()
    extra.PRETRAINED_LAYERS = ["*"]
    extra.STEM_INPLANES = 64
    extra.FINAL_CONV_KERNEL = 1
    extra.WITH_HEAD = True
    extra.STAGE1 = _stage(1, 1, "BOTTLENECK", [4], [64])
    extra.STAGE2 = _stage(1, 2, "BASIC", [4, 4], [18, 36])
    extra.STAGE3 = _stage(4, 3, "BASIC", [4, 4, 4], [18, 36, 72])
    extra.STAGE4 = _stage(3, 4, "BASIC", [4, 4, 4, 4], [18, 36, 72, 144])
    extra.HEAD = CfgNode({"CHANNELS": [32, 64, 128, 256], "FEATURES": 2048})  # upstream fixes these in its code
    extra.SQUEEZE_EXCITE = False  # PaddleClas' SE_HRNet: a squeeze-and-excite gate in each residual block
    schema.register_deprecated_key("MODEL.EXTRA.STAGE1.NUM_RANCHES")  # so misspelt in every upstream file

    schema.LOSS = CfgNode(
        {"USE_OHKM": False, "TOPK": 8, "USE_TARGET_WEIGHT": True, "USE_DIFFERENT_JOINTS_WEIGHT": False}
    )

    schema.DATASET = CfgNode()
    schema.DATASET.ROOT = ""
    schema.DATASET.DATASET = "imagenet"
    schema.DATASET.TRAIN_SET = "train"
    schema.DATASET.TEST_SET = "val"
    schema.DATASET.DATA_FORMAT = "jpg"
    schema.DATASET.HYBRID_JOINTS_TYPE = ""
    schema.DATASET.SELECT_DATA = False
    schema.DATASET.FLIP = True
    schema.DATASET.SCALE_FACTOR = 0.25
    schema.DATASET.ROT_FACTOR = 30
    schema.DATASET.PROB_HALF_BODY = 0.0
    schema.DATASET.NUM_JOINTS_HALF_BODY = 8
    schema.DATASET.COLOR_RGB = False

    schema.TRAIN = CfgNode()
    schema.TRAIN.LR_FACTOR = 0.1
    schema.TRAIN.LR_STEP = [90, 110]
    schema.TRAIN.LR = 0.001
    schema.TRAIN.OPTIMIZER = "adam"
    schema.TRAIN.MOMENTUM = 0.9
    schema.TRAIN.WD = 0.0001
    schema.TRAIN.NESTEROV = False
    schema.TRAIN.GAMMA1 = 0.99
    schema.TRAIN.GAMMA2 = 0.0
    schema.TRAIN.BEGIN_EPOCH = 0
    schema.TRAIN.END_EPOCH = 140
    schema.TRAIN.RESUME = False
    schema.TRAIN.CHECKPOINT = ""
    schema.TRAIN.BATCH_SIZE_PER_GPU = 32
    schema.TRAIN.SHUFFLE = True

    schema.TEST = CfgNode()
    schema.TEST.BATCH_SIZE_PER_GPU = 32
    schema.TEST.FLIP_TEST = False
    schema.TEST.POST_PROCESS = False
    schema.TEST.SHIFT_HEATMAP = False
    schema.TEST.USE_GT_BBOX = False
    schema.TEST.IMAGE_THRE = 0.1
    schema.TEST.NMS_THRE = 0.6
    schema.TEST.SOFT_NMS = False
    schema.TEST.OKS_THRE = 0.5
    schema.TEST.IN_VIS_THRE = 0.0
    schema.TEST.COCO_BBOX_FILE = ""
    schema.TEST.BBOX_THRE = 1.0
    schema.TEST.MODEL_FILE = ""

    schema.DEBUG = CfgNode(
        {
            "DEBUG": False,
            "SAVE_BATCH_IMAGES_GT": False,
            "SAVE_BATCH_IMAGES_PRED": False,
            "SAVE_HEATMAPS_GT": False,
            "SAVE_HEATMAPS_PRED": False,
        }
    )

    schema.INPUT = CfgNode()
    schema.INPUT.RESIZE = 256  # short side after the resize, pixels; MODEL.IMAGE_SIZE is cropped from its centre
    schema.INPUT.MEAN = [0.485, 0.456, 0.406]  # R, G, B of pixels scaled to 0..1
    schema.INPUT.STD = [0.229, 0.224, 0.225]

    schema.REFERENCE = CfgNode()  # what the gate holds a result against; 0: none is known
    schema.REFERENCE.TOP1 = 0.0  # percent
    schema.REFERENCE.TOP5 = 0.0  # percent
    schema.REFERENCE.PARAMS_M = 0.0  # million parameters
    schema.REFERENCE.SOURCE = ""

    schema.WEIGHTS = CfgNode({"URL": "", "MD5": ""})  # MD5, since that is what the publishers state
    return schema


def config_path(model: str) -> Path:
    """The YAML of a model: a name in `configs/`, or a path of one's own that ends in .yaml."""
    return Path(model) if model.endswith((".yaml", ".yml")) else CONFIGS / f"{model}.yaml"


def load_config(path: AnyPath) -> CfgNode:
    """Read one model's YAML over the schema's defaults; the result is frozen.

    Raises UserError when the file is missing, is no YAML mapping, has a key that the schema does not know (named, with
    the nearest known one), a value of another type, or branches that contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = difflib.get_close_matches(path.stem, known, n=1)
        mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known) or 'none'}"
        raise UserError("no such config", where=path, mend=mend)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise UserError(f"is no YAML: {' '.join(str(fault).split())}", where=path) from None
    if not isinstance(values, dict):
        raise UserError("is no config", where=path, expected="a YAML mapping", found=type(values).__name__)
    schema = _schema()
    _fit(values, schema, path, "")
    try:
        schema.merge_from_other_cfg(CfgNode(values))
    except (ValueError, KeyError) as fault:
        raise UserError(" ".join(str(fault.args[0]).split()), where=path) from None
    _check(schema, path)
    schema.freeze()
    return schema


def _fit(values: dict[str, Any], schema: CfgNode, path: Path, prefix: str) -> None:
    """Name each unknown key, and let an integer stand for a float (`LR: 1`), which yacs refuses."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if schema.key_is_deprecated(name) or name == "MODEL.EXTRA.STAGE1.NUM_RANCHES":
            continue
        if key not in schema:
            near = difflib.get_close_matches(str(key), list(schema), n=1)
            mend = f"did you mean {prefix}{near[0]}?" if near else f"known there: {', '.join(sorted(schema))}"
            raise UserError(f"unknown key {name}", where=path, mend=mend)
        default = schema[key]
        if isinstance(default, CfgNode):
            if not isinstance(value, dict):
                raise UserError(f"{name} is no mapping", where=path, found=repr(value))
            _fit(value, default, path, f"{name}.")
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            values[key] = float(value)


def _check(config: CfgNode, path: Path) -> None:
    """What yacs' types do not say: numbers of values, their kind and range."""

    def refuse(name: str, expected: str, found: object) -> UserError:
        return UserError(name, where=path, expected=expected, found=found)

    def check_counts(name: str, values: Any, length: int, unit: int = 1) -> None:
        expected = f"{length} whole numbers from {unit}" if unit == 1 else f"{length} multiples of {unit}"
        # yacs lets null pass for any type.
        if not values or len(values) != length or not all(_is_count(value) and value % unit == 0 for value in values):
            raise refuse(name, expected, values)

    model, extra = config.MODEL, config.MODEL.EXTRA
    for number in range(1, 5):
        name, stage = f"MODEL.EXTRA.STAGE{number}", extra[f"STAGE{number}"]
        if stage.NUM_BRANCHES != number:
            raise refuse(f"{name}.NUM_BRANCHES", str(number), stage.NUM_BRANCHES)
        check_counts(f"{name}.NUM_MODULES", [stage.NUM_MODULES], 1)
        check_counts(f"{name}.NUM_BLOCKS", stage.NUM_BLOCKS, number)
        check_counts(f"{name}.NUM_CHANNELS", stage.NUM_CHANNELS, number)
        if stage.BLOCK not in ("BASIC", "BOTTLENECK"):
            raise refuse(f"{name}.BLOCK", "BASIC or BOTTLENECK", stage.BLOCK)
        if stage.FUSE_METHOD != "SUM":
            raise refuse(f"{name}.FUSE_METHOD", "SUM", stage.FUSE_METHOD)
    check_counts("MODEL.EXTRA.HEAD.CHANNELS", extra.HEAD.CHANNELS, 4)
    single = {"MODEL.EXTRA.HEAD.FEATURES": extra.HEAD.FEATURES, "MODEL.EXTRA.STEM_INPLANES": extra.STEM_INPLANES}
    for name, value in {**single, "MODEL.NUM_CLASSES": model.NUM_CLASSES, "INPUT.RESIZE": config.INPUT.RESIZE}.items():
        check_counts(name, [value], 1)
    check_counts("MODEL.IMAGE_SIZE", model.IMAGE_SIZE, 2, unit=32)  # the lowest branch has 1/32 of the resolution
    if config.INPUT.RESIZE < max(model.IMAGE_SIZE):
        raise refuse("INPUT.RESIZE", f"at least MODEL.IMAGE_SIZE, {model.IMAGE_SIZE}", config.INPUT.RESIZE)
    for name, values in (("INPUT.MEAN", config.INPUT.MEAN), ("INPUT.STD", config.INPUT.STD)):
        if not values or len(values) != 3 or not all(_is_number(value) for value in values):
            raise refuse(name, "3 numbers", values)
    for name in ("TOP1", "TOP5"):
        if not 0 <= config.REFERENCE[name] <= 100:
            raise refuse(f"REFERENCE.{name}", "percent", config.REFERENCE[name])
    if not isinstance(config.WEIGHTS.URL, str):
        raise refuse("WEIGHTS.URL", "a URL, or nothing at all", config.WEIGHTS.URL)
    if not re.fullmatch("([0-9a-fA-F]{32})?", str(config.WEIGHTS.MD5)):
        raise refuse("WEIGHTS.MD5", "32 hex digits", config.WEIGHTS.MD5)
    if min(config.INPUT.STD) <= 0:
        raise refuse("INPUT.STD", "3 numbers above 0", config.INPUT.STD)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def config_sha256(config: CfgNode) -> str:
    """Hash of what shapes the model and its input (MODEL and INPUT), so that a changed learning rate is no change."""
    told = {"MODEL": _plain(config.MODEL), "INPUT": _plain(config.INPUT)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
