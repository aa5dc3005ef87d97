"""Read an AIPP file (--insert_op_conf) and insert its arithmetic after the input of a model.

AIPP computes `(in - mean - min) * var_reci` for each channel of uint8 NHWC pixels. Only static AIPP for RGB888_U8 with
the model's image size is emulated. A file with other functions (crop, resize, padding, colour space, swapped channels,
dynamic AIPP, another input) is rejected with E10055, and an invalid file with E10052. Values that AIPP ignores are
ignored here too, such as crop sizes while crop is off.

Source: CANN's GE: proto/insert_op.proto (names, types, defaults), graph/preprocess/insert_op/aipp_op.cc (checks and
their texts), ATC's documentation of the AIPP file. Some texts are our own, in ATC's form: the reasons of E10052 for an
unreadable file and for a file that does not match the model (atc writes them to its log), and E10055.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Union

import onnx

from atc import graph
from atc.pixels import CHANNELS, insert_steps
from atc.shapes import DYNAMIC, AtcError

Value = Union[str, int, float]


class Kind(NamedTuple):
    """The legal values of a field."""

    expected: str
    pattern: str
    read: Callable[[str], Value]


# fmt: off
FORMATS = (
    "YUV420SP_U8", "XRGB8888_U8", "RGB888_U8", "YUV400_U8", "NC1HWC0DI_FP16", "NC1HWC0DI_S8", "ARGB8888_U8",
    "YUYV_U8", "YUV422SP_U8", "AYUV444_U8", "RAW10", "RAW12", "RAW16", "RAW24",
)
SWITCHES = ("csc_switch", "rbuv_swap_switch", "ax_swap_switch", "single_line_mode", "crop", "resize", "padding")
_SIZES = (
    "related_input_rank", "input_edge_idx", "max_src_image_size", "src_image_size_w", "src_image_size_h",
    "load_start_pos_w", "load_start_pos_h", "crop_size_w", "crop_size_h", "resize_output_w", "resize_output_h",
    "left_padding_size", "right_padding_size", "top_padding_size", "bottom_padding_size",
)
# fmt: on

_SWITCH = Kind("true or false", "[tT]rue|[fF]alse", str.lower)
_WHOLE = Kind("a whole number that is not smaller than 0", "0|[1-9][0-9]{0,8}", int)
_SIGNED = Kind("a whole number", f"-?({_WHOLE.pattern})", int)
_NUMBER = Kind("a number", r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", float)
FIELDS = {
    "aipp_mode": Kind("static or dynamic", "static|dynamic", str),
    "input_format": Kind(", ".join(FORMATS), "|".join(FORMATS), str),
    **dict.fromkeys((*SWITCHES, "support_rotation"), _SWITCH),
    **dict.fromkeys(_SIZES, _WHOLE),
    **{f"mean_chn_{channel}": _WHOLE for channel in range(4)},
    **{f"{name}_chn_{channel}": _NUMBER for name in ("min", "var_reci") for channel in range(4)},
    **{f"matrix_r{row}c{column}": _SIGNED for row in range(3) for column in range(3)},
    **{f"{side}_bias_{channel}": _WHOLE for side in ("output", "input") for channel in range(3)},
    "cpadding_value": _NUMBER,
}
EMULATED: dict[str, Value] = {
    "aipp_mode": "static",
    "input_format": "RGB888_U8",
    "related_input_rank": 0,
    **dict.fromkeys(SWITCHES, "false"),
}
_FIELD = re.compile(r"([a-z_][a-z_0-9]*)\s*:\s*([A-Za-z0-9_.+-]+)\s*[,;]?\s*")


@dataclass(frozen=True)
class Aipp:
    """`(in - mean - min) * var_reci` for R, G, B; width and height of the image in pixels, 0: as in the model."""

    width: int
    height: int
    mean: tuple[float, ...]
    min: tuple[float, ...]
    var_reci: tuple[float, ...]


def not_emulated(what: str, hint: str = "remove it") -> AtcError:
    """The error for a function of atc that is not emulated."""
    reason = f"The emulator of atc does not support {what}: {hint}, or run atc itself."
    return AtcError("E10055", f"The operation is not supported. Reason: {reason}")


def invalid(reason: str) -> AtcError:
    return AtcError("E10052", f"AIPP configuration is invalid. Reason: {reason}.")


def fields(text: str) -> dict[str, Value]:
    """The fields of the aipp_op in a file. Raises AtcError E10052 for an invalid file, E10055 for several aipp_op."""
    text = re.sub("#.*", "", text)
    if len(re.findall(r"\baipp_op\b", text)) > 1:
        raise not_emulated("several aipp_op in --insert_op_conf")
    block = re.fullmatch(r"\s*aipp_op\s*:?\s*\{\s*([^{}]*)\}\s*", text)
    if not block:
        raise invalid("the file is not of the form aipp_op { name: value … }")
    found: dict[str, Value] = {}
    at, end = block.start(1), len(text[: block.end(1)].rstrip())
    while at < end:
        line = text.count("\n", 0, at) + 1
        field = _FIELD.match(text, at, end)
        if not field:
            raise invalid(f"line {line}: expected name: value, found {text[at:end].splitlines()[0].strip()}")
        name, word = field.groups()
        if name not in FIELDS:
            raise invalid(f"line {line}: unknown field {name}")
        if name in found:
            raise invalid(f"The parameter {name} can not be configured repeatedly")
        if not re.fullmatch(FIELDS[name].pattern, word):
            raise invalid(f"line {line}: {name} (expected {FIELDS[name].expected}, found {word})")
        found[name] = FIELDS[name].read(word)
        at = field.end()
    return found


def read(text: str) -> Aipp:
    """Read an AIPP file. Raises AtcError E10052 or E10055."""
    found = fields(text)
    if "aipp_mode" not in found:
        raise invalid("When insert AIPP op, aipp_mode must be configured as static or dynamic")
    if found["aipp_mode"] == "static" and "input_format" not in found:
        raise invalid("Input format of AIPP conf must be set in static aipp")
    for name, value in found.items():
        if name == "input_edge_idx" or value != EMULATED.get(name, value):
            raise not_emulated(f"{name}: {value} in --insert_op_conf")
    return Aipp(
        width=int(found.get("src_image_size_w", 0)),
        height=int(found.get("src_image_size_h", 0)),
        mean=_channels(found, "mean_chn", 0),
        min=_channels(found, "min_chn", 0),
        var_reci=_channels(found, "var_reci_chn", 1),
    )


def _channels(found: Mapping[str, Value], name: str, default: float) -> tuple[float, ...]:
    return tuple(float(found.get(f"{name}_{channel}", default)) for channel in range(CHANNELS))


def check_fits(aipp: Aipp, shape: Sequence[int], input_format: str) -> None:
    """Raise AtcError E10052 if the file does not match an input of `shape`, NCHW."""
    if input_format != "NCHW":
        raise invalid(f"aipp input format only support NCHW, found --input_format={input_format}")
    if len(shape) != 4 or shape[1] != CHANNELS:
        raise invalid(f"RGB888_U8 needs a model input [N, {CHANNELS}, H, W], found {list(shape)}")
    if DYNAMIC in shape:
        raise invalid(f"static AIPP does not support an input with dynamic shape, found {list(shape)}")
    height, width = shape[2:]
    if (aipp.height or height, aipp.width or width) != (height, width):
        sizes = f"aipp output_height:{aipp.height or height}, aipp output_width:{aipp.width or width}"
        data = f"data's height:{height}, data's width:{width}"
        raise invalid(f"the data output H and W is not equal with aipp output H and W. {sizes}, {data}")


def insert(model: onnx.ModelProto, conf: Aipp, input_format: str) -> None:
    """Insert the arithmetic after the first input, in place. Raises AtcError E10052 if they do not match."""
    first = graph.inputs(model)[0]
    check_fits(conf, first.shape, input_format)
    steps = [("Sub", "mean", conf.mean, 0.0), ("Sub", "min", conf.min, 0.0), ("Mul", "var_reci", conf.var_reci, 1.0)]
    changing = [(operator, name, values) for operator, name, values, neutral in steps if set(values) != {neutral}]
    insert_steps(model, first.name, f"{first.name}_aipp", changing)
