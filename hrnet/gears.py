"""Gears: the few input sizes that a dynamic pose model is compiled for (atc's --dynamic_dims), height and width in
pixels.

A gear's short side is the network's input size; its long side holds the image whole, with a black border, or, where no
gear is long enough, cuts it at both ends. The model zoo's HigherHRNet_preprocess.py calls its choice the nearest, but
computes this: the next gear up, and the longest for what is longer still.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import yaml

from hrnet.io.files import AnyPath, write_text
from hrnet.io.records import FormatError

STEP = 64  # pixels: the long side that upstream makes is a multiple of it
MOST_GEARS = 100  # that atc takes

Gear = tuple[int, int]  # height, width


def rounded_up(pixels: float) -> int:
    """The multiple of STEP that upstream takes for a side: cut to an integer, so that 512.9 stays 512."""
    return int((pixels + STEP - 1) // STEP * STEP)


def short_side(input_size: int, where: AnyPath) -> int:
    """The short side of all gears; FormatError where upstream would take another than DATASET.INPUT_SIZE."""
    if rounded_up(input_size) != input_size:
        expected = f"a multiple of {STEP}, to which upstream rounds it up"
        raise FormatError("DATASET.INPUT_SIZE", where=where, expected=expected, found=input_size)
    return input_size


def whole_size(width: int, height: int, short: int) -> Gear:
    """The input that holds an image of `width` x `height` pixels whole: its short side is `short`, its long one a
    multiple of STEP."""
    if width < height:
        return rounded_up(short / width * height), short
    return short, rounded_up(short / height * width)


def choose(width: int, height: int, short: int, gears: Sequence[Gear]) -> Optional[Gear]:
    """The gear for an image of `width` x `height` pixels; without any gears the size that holds it whole. None when all
    gears stand upright and the image lies, or the other way round."""
    whole = whole_size(width, height, short)
    if not gears:
        return whole
    upright = width < height
    fitting = sorted(gear for gear in gears if gear[1 if upright else 0] == short)
    return next((gear for gear in fitting if gear >= whole), fitting[-1] if fitting else None)


def check_gears(values: Any, short: int, where: AnyPath, name: str = "GEARS") -> list[Gear]:
    """`values` as gears of a network whose input size is `short`; FormatError says what is wrong with them."""
    expected = f"1 to {MOST_GEARS} different [height, width], one side {short}, the other a multiple of 32 from there"

    def fits(pair: Any) -> bool:
        numbers = isinstance(pair, list) and len(pair) == 2 and all(type(side) is int for side in pair)
        return numbers and min(pair) == short and max(pair) % 32 == 0

    if not isinstance(values, list) or not 1 <= len(values) <= MOST_GEARS:
        raise FormatError(name, where=where, expected=expected, found=repr(values))
    wrong = [pair for pair in values if not fits(pair)] or [pair for pair in values if values.count(pair) > 1]
    if wrong:
        raise FormatError(name, where=where, expected=expected, found=wrong[0])
    return [(height, width) for height, width in values]


def read_gears(path: AnyPath, short: int) -> list[Gear]:
    """Read the gears of a YAML file, `GEARS: [[512, 512], [512, 768]]`."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError("no such gears file", where=path, hint="run make gears") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"not YAML: {' '.join(str(error).split())}", where=path) from None
    return check_gears(content.get("GEARS") if isinstance(content, dict) else None, short, path)


def write_gears(path: AnyPath, gears: Sequence[Gear], comment: str) -> None:
    """Write gears as `read_gears` takes them, below a comment of one line."""
    lines = ", ".join(f"[{height}, {width}]" for height, width in gears)
    write_text(path, f"# {comment}\nGEARS: [{lines}]\n")
