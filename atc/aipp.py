"""The AIPP file of --insert_op_conf: uint8 pixels come in, and normalising stands at the head of the model.

`spell` writes the file for a config's mean and std; `read` takes such a file apart for atc's twin, `input_shape` says
what the model's input becomes. Pure functions, no files, no onnx. AIPP computes `(in - mean - min) * var_reci`, channel
by channel, on uint8 NHWC whatever --input_format says.

Emulated is static AIPP on RGB888_U8 of the model's own size. A file that changes anything else (crop, resize, padding,
colour space, swapped channels, dynamic AIPP, another input) is refused with E10055, one that is no AIPP file with
E10052. What AIPP itself does not look at, such as the sizes of a crop that is off, is taken and left alone.

Source: CANN's GE: proto/insert_op.proto (names, types, defaults), graph/preprocess/insert_op/aipp_op.cc (checks and
their words), ATC's documentation of the configuration file. Ours, in ATC's form: the reasons of E10052 for a file that
cannot be read and for a model that the file does not fit, which atc tells in its log, and E10055.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Union

from atc.shapes import DYNAMIC, AtcError, not_emulated

CHANNELS = 3  # of RGB888_U8
PIXEL_MAX = 255
DIGITS = 9  # significant ones, as many as tell float32 numbers apart

Value = Union[str, int, float]


class Kind(NamedTuple):
    """What a field takes."""

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
    """`(in - mean - min) * var_reci` of R, G, B; width and height of the image in pixels, 0 for the model's own."""

    width: int
    height: int
    mean: tuple[float, ...]
    min: tuple[float, ...]
    var_reci: tuple[float, ...]


def render(width: int, height: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """The file that normalises RGB pixels as `(value / 255 - mean) / std`; sizes in pixels."""
    lines = [
        "aipp_mode: static",
        "related_input_rank: 0",
        "input_format: RGB888_U8",
        f"src_image_size_w: {width}",
        f"src_image_size_h: {height}",
        "crop: false",
        "csc_switch: false",
        "rbuv_swap_switch: false",
        *(f"min_chn_{channel}: {PIXEL_MAX * value:.{DIGITS}g}" for channel, value in enumerate(mean)),
        *(f"var_reci_chn_{channel}: {1 / (PIXEL_MAX * value):.{DIGITS}g}" for channel, value in enumerate(std)),
    ]
    return "".join(["aipp_op {\n", *(f"    {line}\n" for line in lines), "}\n"])


def invalid(reason: str) -> AtcError:
    return AtcError("E10052", f"AIPP configuration is invalid. Reason: {reason}.")


def fields(text: str) -> dict[str, Value]:
    """The one aipp_op of a file, field by field. Raises AtcError E10052 where it is none, E10055 for several."""
    text = re.sub("#.*", "", text)
    if len(re.findall(r"\baipp_op\b", text)) > 1:
        raise not_emulated("several aipp_op in --insert_op_conf")
    block = re.fullmatch(r"\s*aipp_op\s*:?\s*\{\s*([^{}]*)\}\s*", text)
    if not block:
        raise invalid("the file is no aipp_op { name: value … }")
    found: dict[str, Value] = {}
    at, end = block.start(1), len(text[: block.end(1)].rstrip())
    while at < end:
        line = text.count("\n", 0, at) + 1
        field = _FIELD.match(text, at, end)
        if not field:
            raise invalid(f"line {line}: expected name: value, found {text[at:end].splitlines()[0].strip()}")
        name, word = field.groups()
        if name not in FIELDS:
            raise invalid(f"line {line}: an aipp_op has no {name}")
        if name in found:
            raise invalid(f"The parameter {name} can not be configured repeatedly")
        if not re.fullmatch(FIELDS[name].pattern, word):
            raise invalid(f"line {line}: {name} (expected {FIELDS[name].expected}, found {word})")
        found[name] = FIELDS[name].read(word)
        at = field.end()
    return found


def read(text: str) -> Aipp:
    """The arithmetic that an AIPP file asks for. Raises AtcError E10052 or E10055."""
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


def input_shape(aipp: Aipp, shape: Sequence[int], input_format: str) -> list[int]:
    """[N, H, W, 3] that the input of `shape`, NCHW, becomes. Raises AtcError E10052 where the file does not fit it."""
    if input_format != "NCHW":
        raise invalid(f"aipp input format only support NCHW, found --input_format={input_format}")
    if len(shape) != 4 or shape[1] != CHANNELS:
        raise invalid(f"RGB888_U8 needs an input of [N, {CHANNELS}, H, W], the model's is {list(shape)}")
    if DYNAMIC in shape:
        raise invalid(f"static AIPP does not support an input of dynamic shape, found {list(shape)}")
    batch, _, height, width = shape
    if (aipp.height or height, aipp.width or width) != (height, width):
        sizes = f"aipp output_height:{aipp.height or height}, aipp output_width:{aipp.width or width}"
        data = f"data's height:{height}, data's width:{width}"
        raise invalid(f"the data output H and W is not equal with aipp output H and W. {sizes}, {data}")
    return [batch, height, width, CHANNELS]
