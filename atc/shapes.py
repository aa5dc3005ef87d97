"""Read --input_shape and the gears of --dynamic_batch_size, --dynamic_image_size and --dynamic_dims as ATC does.

Pure functions; errors are AtcErrors with ATC's code and text. Source: CANN's GE, api/atc/main_impl.cc, atc_ir_common.cc
and the error table. One text is our own, in the same form: for --dynamic_dims without --input_format=ND, which ATC's
documentation requires. Only a direct call of `check_gears` raises E10037: for a command line, E10003 or E10020 comes
first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Union

from hrnet import cann

GEAR_PARAMETERS = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")
LEAST_GEARS, MOST_GEARS, MOST_GEARS_950 = 2, 100, 256
DYNAMIC = -1

Dim = Union[int, "tuple[int, int]"]  # a size, -1, or a range n1~n2


class AtcError(Exception):
    """An error of ATC, with ATC's code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def invalid(name: str, value: str, reason: str, code: str = "E10001") -> AtcError:
    """The error for an invalid value. E10001 and E10003 have the same text."""
    return AtcError(code, f"Value {value} for parameter --{name} is invalid. Reason: {reason}")


def input_shapes(arguments: Mapping[str, str]) -> dict[str, list[Dim]]:
    """--input_shape as {input name: shape}, in the same order; {} if it is not given.

    Each entry is split at its last `:`, since a name may contain `:`. Raises AtcError E10002, E10011, E10014 or E10048.
    """
    shapes: dict[str, list[Dim]] = {}
    if "input_shape" not in arguments:
        return shapes
    for entry in arguments["input_shape"].split(";"):
        name, colon, sizes = entry.rpartition(":")
        if not colon:
            parts = "The shape must contain two parts: name and value"
            raise _bad_shape(entry, parts, "input_name1:n1,c1,h1,w1")
        shapes[name.strip()] = [_dim(size, entry) for size in sizes.split(",")] if sizes else []
    return shapes


def _bad_shape(entry: str, reason: str, sample: str) -> AtcError:
    return AtcError(
        "E10002",
        f"Value {entry} for parameter --input_shape is invalid. Reason: {reason}. "
        f'The value must be formatted as "{sample}".',
    )


def _dim(text: str, entry: str) -> Dim:
    text = text.strip()
    low, tilde, high = text.partition("~")
    if tilde:
        if not (low.isdecimal() and high.isdecimal() and low.isascii() and high.isascii()):
            raise AtcError(
                "E10048",
                f"Value {text} for parameter --input_shape_range or dynamic_inputs_shape_range is invalid. Reason: "
                'The current string cannot be converted to a number. The value must be formatted as "1~20".',
            )
        return int(low), int(high)
    if not text:
        raise AtcError("E10014", "Value  for parameter --input_shape is invalid.")
    if "." in text:
        raise _bad_shape(entry, "The float number is unsupported", "input_name1:1,3,224,224")
    if not re.fullmatch(r"-?[0-9]+", text):
        raise _bad_shape(entry, "It is not a digit", "input_name1:1,3,224,224")
    if int(text) < 1 and int(text) != DYNAMIC:
        raise AtcError(
            "E10011",
            f"Value {entry} for parameter --input_shape is invalid. Shape values must be positive integers. "
            f"The error value in the shape is {int(text)}.",
        )
    return int(text)


def gears(arguments: Mapping[str, str]) -> list[tuple[int, ...]]:
    """The gears of --dynamic_batch_size, --dynamic_image_size or --dynamic_dims, in the same order; [] if none is
    given.

    Raises AtcError if the gears or the dynamic axes of --input_shape are invalid.
    """
    given = [name for name in (*GEAR_PARAMETERS, "input_shape_range") if name in arguments]
    if len(given) > 1:
        raise AtcError(
            "E10009",
            "--dynamic_batch_size, --dynamic_image_size, --input_shape_range, and --dynamic_dims are mutually "
            "exclusive.",
        )
    shapes = input_shapes(arguments)
    if not given or given == ["input_shape_range"]:
        return []
    if not shapes:
        raise AtcError("E10004", "Value for --input_shape is empty.")
    if any(isinstance(dim, tuple) for shape in shapes.values() for dim in shape):
        raise AtcError(
            "E10040",
            "As the --dynamic_batch_size, --dynamic_image_size, or --dynamic_dims argument is included, the "
            "corresponding nodes specified in --input_shape must have -1 axes and cannot have '~'.",
        )
    read = {"dynamic_batch_size": _batch_gears, "dynamic_image_size": _image_gears, "dynamic_dims": _dims_gears}
    found = read[given[0]](arguments, list(shapes.values()))
    check_gears(found, MOST_GEARS_950 if cann.is_950(arguments.get("soc_version", "")) else MOST_GEARS)
    return found


def at_gear(shapes: Mapping[str, Sequence[int]], gear: Sequence[int]) -> dict[str, list[int]]:
    """Replace each -1 in `shapes` by a value of the gear, in the order of the inputs."""
    values = iter(gear)
    return {name: [next(values) if dim == DYNAMIC else dim for dim in shape] for name, shape in shapes.items()}


def _batch_gears(arguments: Mapping[str, str], shapes: list[list[Dim]]) -> list[tuple[int, ...]]:
    dynamic_batches = 0
    for shape in shapes:
        if not shape:
            raise AtcError(
                "E10012",
                "--dynamic_batch_size is included, but the dimension count of the dynamic-shape input configured in "
                "--input_shape is less than 1.",
            )
        if shape[0] != DYNAMIC:
            continue
        dynamic_batches += 1
        if DYNAMIC in shape[1:]:
            raise AtcError(
                "E10018",
                f"Value -1 for shape {shape.index(DYNAMIC, 1)} is invalid. When --dynamic_batch_size is included, "
                "only batch size N can be -1 in --input_shape.",
            )
    if not dynamic_batches:
        raise AtcError(
            "E10031",
            "--dynamic_batch_size is included, but none of the nodes specified in --input_shape has a batch size "
            "equaling -1.",
        )
    given = arguments["dynamic_batch_size"]
    sizes = given.removesuffix(",").split(",")
    if not all(re.fullmatch(" *[0-9]+ *", size) for size in sizes):
        raise invalid("dynamic_batch_size", given, 'It can only contain digits and ",".', "E10003")
    return [(int(size),) for size in sizes]


def _image_gears(arguments: Mapping[str, str], shapes: list[list[Dim]]) -> list[tuple[int, ...]]:
    dynamic = [shape for shape in shapes if DYNAMIC in shape]
    for shape in dynamic or [[]]:
        axes = [axis for axis, dim in enumerate(shape) if dim == DYNAMIC]
        if len(shape) != 4 or axes != [2, 3]:  # NCHW is the only four-axis format for ONNX
            raise AtcError(
                "E10019",
                "When --dynamic_image_size is included, only the height and width axes can be -1 in --input_shape.",
            )
    given = arguments["dynamic_image_size"]
    if not re.fullmatch("[0-9,; ]*", given):
        raise invalid("dynamic_image_size", given, 'It can only contain digits, ",", " " and ";".', "E10003")
    found = []
    for gear in given.removesuffix(";").split(";"):
        if not re.fullmatch(" *[0-9]+ *, *[0-9]+ *", gear):
            raise AtcError("E10020", f"Value {given} for parameter --dynamic_image_size is invalid.")
        found.append(tuple(int(size) for size in gear.split(",")))
    return found


def _dims_gears(arguments: Mapping[str, str], shapes: list[list[Dim]]) -> list[tuple[int, ...]]:
    given = arguments["dynamic_dims"]
    if arguments.get("input_format", "NCHW") != "ND":
        raise invalid("input_format", arguments.get("input_format", "NCHW"), "--dynamic_dims requires the value ND.")
    dynamic_axes = sum(shape.count(DYNAMIC) for shape in shapes)
    if not dynamic_axes:
        none = "At least one dim should be -1 when dynamic_dims is set."
        raise invalid("input_shape's dynamic dim num", "0", none)
    found = []
    for gear in given.removesuffix(";").split(";"):
        sizes = gear.split(",")
        if len(sizes) != dynamic_axes:
            fewer = "Each setting needs to be consistent with the number of -1 in the input shape."
            raise invalid("dynamic_dims", given, fewer, "E10003")
        for size in sizes:
            if not re.fullmatch("[0-9]+", size):
                raise invalid("dynamic_dims", size, "Dynamic dims must be a positive integer.")
        found.append(tuple(int(size) for size in sizes))
    return found


def check_gears(found: Sequence[Sequence[int]], most: int = MOST_GEARS) -> None:
    """Check the number of gears (E10035, E10036), their lengths (E10037), zeros (E10038) and duplicates (E10039)."""
    flags = "--dynamic_batch_size, --dynamic_image_size, or --dynamic_dims"
    if len(found) < LEAST_GEARS:
        few = f"has {len(found)} profiles, which is less than the minimum {LEAST_GEARS}."
        raise AtcError("E10035", f"{flags} {few}")
    if len(found) > most:
        many = f"has {len(found)} profiles, which is greater than the maximum {most}."
        raise AtcError("E10036", f"{flags} {many}")
    for gear in found:
        if len(gear) != len(found[0]):
            raise AtcError(
                "E10037",
                f"The profiles configured in {flags} have inconsistent dimension counts. A profile has "
                f"{len(found[0])} dimensions while another has {len(gear)} dimensions.",
            )
        for dim in gear:
            if dim < 1:
                raise AtcError("E10038", f"Dimension size {dim} is invalid. The value must be greater than 0.")
    if len({tuple(gear) for gear in found}) != len(found):
        raise AtcError("E10039", f"The {flags} argument have duplicate profiles.")
