"""Gears: the input sizes (height, width in pixels) that a dynamic pose model is compiled for, atc's --dynamic_dims.

The short side of all gears is the network's input size. For an image, the shortest gear that holds the whole image is
chosen; the rest of the input is black. If no gear is long enough, the longest one is chosen, and the image is cut at
both ends. The model zoo's HigherHRNet_preprocess.py computes the same, although it calls the result the nearest gear.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import yaml

from hrnet.io.files import AnyPath, write_text
from hrnet.io.records import FormatError

STEP = 64  # pixels: upstream rounds the long side up to a multiple of it
MOST_GEARS = 256  # limit of atc for an Ascend 950; for other chips it is 100

Gear = tuple[int, int]  # height, width


def round_up(pixels: float) -> int:
    """Drop the fraction of a side, then round it up to a multiple of STEP, as upstream does: 512.9 gives 512."""
    return int((pixels + STEP - 1) // STEP * STEP)


def short_side(input_size: int, where: AnyPath) -> int:
    """The short side of all gears, DATASET.INPUT_SIZE. Raises FormatError if upstream would round it."""
    if round_up(input_size) != input_size:
        expected = f"a multiple of {STEP}"
        raise FormatError("invalid DATASET.INPUT_SIZE", where=where, expected=expected, found=input_size)
    return input_size


def whole_size(width: int, height: int, short: int) -> Gear:
    """The input size for the whole of an image of `width` x `height` pixels: the short side is `short`, the long side
    a multiple of STEP."""
    if width < height:
        return round_up(short / width * height), short
    return short, round_up(short / height * width)


def choose(width: int, height: int, short: int, gears: Sequence[Gear]) -> Optional[Gear]:
    """The gear for an image of `width` x `height` pixels; its `whole_size` if there are no gears. None if no gear has
    the image's orientation (portrait or landscape)."""
    whole = whole_size(width, height, short)
    if not gears:
        return whole
    portrait = width < height
    fitting = sorted(gear for gear in gears if gear[1 if portrait else 0] == short)
    return next((gear for gear in fitting if gear >= whole), fitting[-1] if fitting else None)


def check_gears(values: Any, short: int, where: AnyPath, name: str = "GEARS") -> list[Gear]:
    """Check `values` as gears with the short side `short`, and return them. Raises FormatError."""
    sides = f"one side {short}, the other at least {short} and a multiple of 32"
    expected = f"1 to {MOST_GEARS} different [height, width], {sides}"

    def fits(pair: Any) -> bool:
        numbers = isinstance(pair, list) and len(pair) == 2 and all(type(side) is int for side in pair)
        return numbers and min(pair) == short and max(pair) % 32 == 0

    if not isinstance(values, list) or not 1 <= len(values) <= MOST_GEARS:
        raise FormatError(f"invalid {name}", where=where, expected=expected, found=repr(values))
    wrong = [pair for pair in values if not fits(pair)] or [pair for pair in values if values.count(pair) > 1]
    if wrong:
        raise FormatError(f"invalid {name}", where=where, expected=expected, found=wrong[0])
    return [(height, width) for height, width in values]


def read_gears(path: AnyPath, short: int) -> list[Gear]:
    """Read the gears in a YAML file, such as `GEARS: [[512, 512], [512, 768]]`. Raises FormatError."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(
            "no such gears file", where=path, hint="run make gears, or fix INPUT.GEARS in the config"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"not YAML: {' '.join(str(error).split())}", where=path) from None
    return check_gears(content.get("GEARS") if isinstance(content, dict) else None, short, path)


def write_gears(path: AnyPath, gears: Sequence[Gear], comment: str) -> None:
    """Write a file for `read_gears`, with a comment in its first line."""
    lines = ", ".join(f"[{height}, {width}]" for height, width in gears)
    write_text(path, f"# {comment}\nGEARS: [{lines}]\n")
