"""The outlines of COCO's annotations (`segmentation`), checked before pycocotools reads them: a malformed one ends its
process or makes a mask of other pixels.

[[x, y, x, y, …], …]                      polygons, in pixels
{"counts": [9, 4, …], "size": [h, w]}     run lengths of 0, 1, 0, … down the columns
{"counts": "0kP1…", "size": [h, w]}       the same, compressed

Source: https://github.com/cocodataset/cocoapi, common/maskApi.c (rleFrString) and PythonAPI/pycocotools/_mask.pyx.
"""

from __future__ import annotations

from typing import Any, Union

Outline = Union[list[list[float]], dict[str, Any]]

CORNERS = 3  # of the smallest polygon that covers pixels
FIRST = 48  # the character of the digit 0
DIGIT_BITS = 5  # of a digit, the lowest first
MORE, NEGATIVE = 0x20, 0x10  # bits of a character: another digit follows; of the last digit: the number's sign


def is_number(value: object, limit: float = 1e9) -> bool:
    """Whether a JSON value is a number, finite and below `limit`."""
    return type(value) in (int, float) and abs(value) < limit  # type: ignore[arg-type]


def read_outline(value: Any, width: int, height: int) -> Outline:
    """The outline of an annotation on an image of `width` x `height` pixels as pycocotools' frPyObjects takes it:
    polygons, without those that cover nothing, or run lengths. Raises ValueError with what is wrong with it."""
    if isinstance(value, list):
        return _polygons(value, 2 * max(width, height))
    if not isinstance(value, dict):
        raise ValueError("neither polygons nor run lengths")
    if value.get("size") != [height, width]:
        raise ValueError(f"run lengths of size {value.get('size')} for an image of height and width {[height, width]}")
    counts = value.get("counts")
    runs = decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("run lengths that are not counts")
    if sum(runs) != width * height:
        raise ValueError(f"run lengths of {sum(runs)} pixels for an image of {width * height}")
    return {"counts": runs, "size": [height, width]}


def _polygons(value: list[Any], farthest: int) -> list[list[float]]:
    polygons: list[list[float]] = []
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError("polygons that are not lists of x, y, x, y, …")
        if not all(is_number(number, farthest + 1) for number in polygon):
            raise ValueError("corners that are not numbers, or far outside the image")
        if len(polygon) >= 2 * CORNERS:
            polygons.append(polygon)
    return polygons


def decompress(text: str) -> list[int]:
    """The run lengths of a compressed outline. Raises ValueError where it is not one."""
    runs: list[int] = []
    number, digits = 0, 0
    for character in text:
        code = ord(character) - FIRST
        if not 0 <= code < 2 * MORE:
            raise ValueError("compressed run lengths with other characters")
        number |= (code & (MORE - 1)) << DIGIT_BITS * digits
        digits += 1
        if not code & MORE:
            number -= 1 << DIGIT_BITS * digits if code & NEGATIVE else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))  # the change since the last run of its value
            number, digits = 0, 0
    if digits:
        raise ValueError("compressed run lengths that are cut short")
    return runs
