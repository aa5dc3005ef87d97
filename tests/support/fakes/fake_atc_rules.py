"""The flags of the fake atc: the names that atc knows, their values, and which flags exclude each other.

Source: CANN's GE (api/atc/atc_flags.cc, main_impl.cc, aclgrph/option_utils.cc) and ATC's documentation; the chips are
those of CANN 8 and 9. Texts that atc words differently from release to release are shortened.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

# fmt: off
CHIPS = {f"Ascend{name}" for name in (
    "310", "310P1", "310P2", "310P3", "310P4", "310P5", "310P7", "310P3Vir01", "310P3Vir02", "310P3Vir04",
    "310P3Vir08", "310B1", "310B2", "310B3", "310B4", "910", "910A", "910B", "910B1", "910B2", "910B2C", "910B3",
    "910B4", "910B4-1", "910ProA", "910ProB", "910PremiumA", "910_9391", "910_9392", "910_9381", "910_9382",
    "910_9372", "910_9362", "910_9363", "950PR_9579", "950PR_9589", "950PR_9599", "950DT_9582",
)}
VALUES = {
    "input_format": "NCHW ND NCDHW",
    "precision_mode": "force_fp16 force_fp32 cube_fp16in_fp32out allow_mix_precision allow_fp32_to_fp16 "
        "must_keep_origin_dtype allow_mix_precision_fp16 allow_mix_precision_bf16 allow_fp32_to_bf16",
    "precision_mode_v2": "fp16 origin cube_fp16in_fp32out mixed_float16 mixed_bfloat16 cube_hif8 mixed_hif8",
    "op_select_implmode": "high_performance high_precision high_performance_for_all high_precision_for_all",
    "buffer_optimize": "l2_optimize l1_optimize off_optimize l1_and_l2_optimize",
    "enable_small_channel": "0 1",
    "log": "debug info warning error null",
}
# fmt: on
FLAGS = set(Path(__file__).with_name("fake_atc_flags.txt").read_text().split())
INPUT_FILES = (
    *("model", "insert_op_conf", "weight", "keep_dtype", "modify_mixlist", "op_precision_mode", "customize_dtypes"),
    *("fusion_switch_file", "compression_optimize_conf"),
)
MIXED = ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "mixed_float16")
MIXED += ("mixed_bfloat16", "mixed_hif8")
DYNAMIC = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "input_shape_range")
GEAR_FLAGS = "--dynamic_batch_size, --dynamic_image_size, or --dynamic_dims"
LEGAL_PATH = re.compile(r"[一-龥A-Za-z0-9./_-]+")
TYPES = ("FP32", "FP16", "UINT8", "INT8")

Shapes = dict[str, list[int]]  # of the inputs, -1 where the size varies
Gears = list[list[int]]


class Rejected(Exception):
    """An error of atc: its code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


def invalid(name: str, value: str, reason: str, code: str = "E10001") -> Rejected:
    return Rejected(code, f"Value {value} for parameter --{name} is invalid. Reason: {reason}")


def read_flags(words: list[str]) -> dict[str, str]:
    """The flags as gflags reads them: --name=value or --name value; a flag with an empty value counts as not given."""
    found: dict[str, str] = {}
    left = list(words)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("-"):
            raise Rejected("E19999", f"Non-option parameter: {name}")
        name = name.lstrip("-").replace("-", "_")
        if name not in FLAGS:
            raise Rejected("E19999", f"unknown command line flag '{name}'")
        if not equals:
            if not left:
                raise Rejected("E19999", f"flag '--{name}' is missing its argument")
            value = left.pop(0)
        found[name] = value
    return {name: value for name, value in found.items() if value}


def check_flags(flags: dict[str, str]) -> tuple[Shapes, Gears]:
    """Apply all rules that need no model, in atc's order; returns --input_shape and the gears."""
    if "auto_tune_mode" in flags:
        reason = "The Auto Tune function has been deprecated. Please use the AOE tool for tuning."
        raise invalid("auto_tune_mode", flags["auto_tune_mode"], reason)
    if flags.get("mode", "0") != "0":
        raise invalid("mode", flags["mode"], "the fake only converts models.")
    if flags.get("framework") != "5":
        raise Rejected("E10007", "--framework is required. The value must be 5(Onnx).")
    for name in ("soc_version", "output", "model"):
        if name not in flags:
            raise Rejected("E10054", f"The required parameter --{name} for ATC is empty.")
    check_paths(flags)
    for name, legal in VALUES.items():
        if name in flags and flags[name] not in legal.split():
            reason = "The value must be NCHW, ND or NCDHW in ONNX model." if name == "input_format" else "Not in range."
            raise invalid(name, flags[name], reason)
    chip = flags["soc_version"]
    if chip not in CHIPS:
        raise invalid("soc_version", chip, "The current value is not within the valid range.")
    if chip.startswith("Ascend950") and "insert_op_conf" in flags:
        raise Rejected("E10055", f"The operation is not supported. Reason: AIPP on {chip}.")
    check_precision(flags)
    shapes = read_shapes(flags.get("input_shape", ""))
    gears = read_gears(flags, shapes)
    if "dynamic_dims" in flags and "insert_op_conf" in flags:
        raise invalid("insert_op_conf", flags["insert_op_conf"], "The dynamic dims function does not support AIPP.")
    kind = flags.get("output_type", "FP32")
    if kind not in TYPES and not all(re.fullmatch(rf".+:\d+:({'|'.join(TYPES)})", part) for part in kind.split(";")):
        raise invalid("output_type", kind, f"Only support {', '.join(TYPES)}.")
    return shapes, gears


def check_paths(flags: dict[str, str]) -> None:
    """Input files must exist, and their absolute path, with links followed, has only legal characters; of --output
    only the given text is checked."""
    reason = "The path can only contain 'a-z' 'A-Z' '0-9' '-' '.' '_' and Chinese characters."
    for name in INPUT_FILES:
        if name in flags:
            if not os.path.isfile(flags[name]):
                raise invalid(name, flags[name], "realpath error, errmsg:No such file or directory")
            if not LEGAL_PATH.fullmatch(os.path.realpath(flags[name])):
                raise invalid(name, flags[name], reason)
    output = flags["output"]
    if not LEGAL_PATH.fullmatch(output):
        raise invalid("output", output, reason)
    if output.endswith("/"):
        raise Rejected("E10022", f"Path {output} for parameter --output does not include the file name.")


def check_precision(flags: dict[str, str]) -> None:
    given = [flags[name] for name in ("precision_mode", "precision_mode_v2") if name in flags]
    if len(given) > 1:
        both = "--precision_mode and --precision_mode_v2"
        raise Rejected("E10056", f"Cannot configure both parameters {both} simultaneously.")
    if "modify_mixlist" in flags and not set(given) & set(MIXED):
        reason = "Modify_mixlist is set. Please ensure that precision_mode is set to a mixed precision."
        raise invalid("precision_mode", "".join(given), reason)


def read_shapes(text: str) -> Shapes:
    shapes: Shapes = {}
    for entry in filter(None, text.split(";")):
        name, colon, sizes = entry.rpartition(":")
        values = [size.strip() for size in sizes.split(",")]
        if not colon or not all(re.fullmatch(r"-1|[0-9]+(~[0-9]+)?", size) for size in values):
            raise invalid("input_shape", entry, "It is not a name and its sizes.", "E10002")
        if "0" in values:
            raise Rejected("E10011", f"Value {entry} for parameter --input_shape is invalid. The size is 0.")
        shapes[name.strip()] = [-1 if "~" in size else int(size) for size in values]
    return shapes


def read_gears(flags: dict[str, str], shapes: Shapes) -> Gears:
    """The gears, one value for each -1. Raises Rejected for gears that do not fit the -1s, and for too few or too many
    gears."""
    given = [name for name in DYNAMIC if name in flags]
    if len(given) > 1:
        raise Rejected("E10009", "--dynamic_batch_size, --dynamic_image_size and the like are mutually exclusive.")
    if not given or given == ["input_shape_range"]:
        return []
    (flag,) = given
    if not shapes:
        raise Rejected("E10004", "Value for --input_shape is empty.")
    if "~" in flags["input_shape"]:
        raise Rejected("E10040", f"With {GEAR_FLAGS} the sizes of --input_shape cannot have '~'.")
    free = {name: [axis for axis, size in enumerate(shape) if size == -1] for name, shape in shapes.items()}
    check_axes(flag, free, shapes)
    separator = "," if flag == "dynamic_batch_size" else ";"
    text = flags[flag][:-1] if flags[flag].endswith(separator) else flags[flag]
    gears = []
    for gear in text.split(separator):
        sizes = gear.split(",")
        if flag == "dynamic_dims":
            check_dims(sizes, sum(map(len, free.values())), text)
        elif not all(re.fullmatch(" *[0-9]+ *", size) for size in sizes):
            raise invalid(flag, text, "It can only contain digits and separators.", "E10003")
        elif flag == "dynamic_image_size" and len(sizes) != 2:
            raise Rejected("E10020", f"Value {text} for parameter --dynamic_image_size is invalid.")
        gears.append([int(size) for size in sizes])
    check_count(gears, 256 if flags["soc_version"].startswith("Ascend950") else 100)
    if flag == "dynamic_dims" and flags.get("input_format") != "ND":
        raise invalid("input_format", flags.get("input_format", "NCHW"), "--dynamic_dims requires ND.")
    return gears


def check_axes(flag: str, free: dict[str, list[int]], shapes: Shapes) -> None:
    """Which sizes may be -1: N of --dynamic_batch_size, H and W of --dynamic_image_size."""
    if flag == "dynamic_batch_size":
        if not any(free.values()):
            raise Rejected("E10031", "--dynamic_batch_size is included, but no batch size equals -1.")
        if not all(axes in ([], [0]) for axes in free.values()):
            raise Rejected("E10018", "When --dynamic_batch_size is included, only batch size N can be -1.")
    elif flag == "dynamic_image_size":
        if not any(free.values()) or not all(
            not axes or (axes == [2, 3] and len(shapes[name]) == 4) for name, axes in free.items()
        ):
            raise Rejected("E10019", "When --dynamic_image_size is included, only the height and width can be -1.")
    elif not any(free.values()):
        raise invalid("input_shape's dynamic dim num", "0", "At least one dim should be -1 when dynamic_dims is set.")


def check_dims(sizes: list[str], free: int, text: str) -> None:
    if len(sizes) != free:
        reason = "Each setting needs to be consistent with the number of -1 in the input shape."
        raise invalid("dynamic_dims", text, reason, "E10003")
    bad: Optional[str] = next((size for size in sizes if not re.fullmatch("[0-9]+", size)), None)
    if bad is not None:
        raise invalid("dynamic_dims", bad, "Dynamic dims must be a positive integer.")


def check_count(gears: Gears, most: int) -> None:
    if len(gears) < 2:
        raise Rejected("E10035", f"{GEAR_FLAGS} has {len(gears)} profiles, which is less than the minimum 2.")
    if len(gears) > most:
        raise Rejected("E10036", f"{GEAR_FLAGS} has {len(gears)} profiles, which is greater than the maximum {most}.")
    if len({len(gear) for gear in gears}) > 1:
        raise Rejected("E10037", f"The profiles configured in {GEAR_FLAGS} have inconsistent dimension counts.")
    if any(size == 0 for gear in gears for size in gear):
        raise Rejected("E10038", "Dimension size 0 is invalid. The value must be greater than 0.")
    if len({tuple(gear) for gear in gears}) < len(gears):
        raise Rejected("E10039", f"The {GEAR_FLAGS} argument have duplicate profiles.")
