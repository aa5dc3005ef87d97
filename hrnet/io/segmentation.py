"""COCO's `segmentation` of annotations, checked before pycocotools reads it: a malformed one crashes the process or
gives a wrong mask.

[[x, y, x, y, …], …]                      polygons, in pixels
{"counts": [9, 4, …], "size": [h, w]}     run lengths of 0, 1, 0, … in column order
{"counts": "0kP1…", "size": [h, w]}       the same, compressed

Source: https://github.com/cocodataset/cocoapi, common/maskApi.c (rleFrString) and PythonAPI/pycocotools/_mask.pyx.
"""

from __future__ import annotations

from typing import Any, Union

Segmentation = Union[list[list[float]], dict[str, Any]]

MOST_PIXELS = 2**32 - 1  # pycocotools counts them in uint32
CORNERS = 3  # minimum for a polygon that covers pixels
FIRST = 48  # code of the character for the digit 0
DIGIT_BITS = 5  # bits of a digit; the lowest digit comes first
MORE, NEGATIVE = 0x20, 0x10  # flag bits: another digit follows; in the last digit: the number is negative


def is_number(value: object, limit: float = 1e9) -> bool:
    """Whether a JSON value is a number, finite and below `limit`."""
    return type(value) in (int, float) and abs(value) < limit  # type: ignore[arg-type]


def read_segmentation(value: Any, width: int, height: int) -> Segmentation:
    """Check the segmentation of an annotation on an image of `width` x `height` pixels. Returns polygons (without empty
    ones) or run lengths for pycocotools' frPyObjects. Raises ValueError with the reason."""
    if isinstance(value, list):
        return _polygons(value, 2 * max(width, height))
    if not isinstance(value, dict):
        raise ValueError("neither polygons nor run lengths")
    if value.get("size") != [height, width]:
        raise ValueError(f"run lengths for size {value.get('size')}, but the image has {[height, width]}")
    counts = value.get("counts")
    runs = decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("run lengths must be integers of at least 0")
    if width * height > MOST_PIXELS:
        raise ValueError(f"an image of more than {MOST_PIXELS} pixels")
    if sum(runs) != width * height:
        raise ValueError(f"run lengths for {sum(runs)} pixels, but the image has {width * height}")
    return {"counts": runs, "size": [height, width]}


def _polygons(value: list[Any], farthest: int) -> list[list[float]]:
    polygons: list[list[float]] = []
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError("polygons must be lists of x, y, x, y, …")
        if not all(is_number(number, farthest + 1) for number in polygon):
            raise ValueError("corners must be numbers, and near the image")
        if len(polygon) >= 2 * CORNERS:
            polygons.append(polygon)
    return polygons


def decompress(text: str) -> list[int]:
    """The numbers in compressed run lengths. Raises ValueError if they are malformed."""
    runs: list[int] = []
    number, digits = 0, 0
    for character in text:
        code = ord(character) - FIRST
        if not 0 <= code < 2 * MORE:
            raise ValueError("invalid character in compressed run lengths")
        number |= (code & (MORE - 1)) << DIGIT_BITS * digits
        digits += 1
        if not code & MORE:
            number -= 1 << DIGIT_BITS * digits if code & NEGATIVE else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))  # the difference from the run before the last one
            number, digits = 0, 0
    if digits:
        raise ValueError("truncated compressed run lengths")
    return runs
