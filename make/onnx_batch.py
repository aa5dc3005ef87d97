"""The batch size of an ONNX file; standard library only, since make needs it before packages are installed.

An ONNX file is a protobuf message (https://protobuf.dev/programming-guides/encoding). The field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Weights are skipped, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Union

GRAPH = 7  # of a ModelProto
INITIALIZER, INPUT = 5, 11  # of a GraphProto
STORED_NAME, NAME = 8, 1  # of an initializer; of an input
DIMENSIONS = (2, 1, 2, 1)  # type, tensor_type, shape, dim: from an input to its dimensions
DIM_VALUE = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types

Span = tuple[int, int]  # start and end of a field's bytes in the file


def fixed_batch(path: Path) -> int:
    """The first dimension of the first input; 0 if it is dynamic, and for a file that is missing, damaged or of another
    kind, which later checks report."""
    if not path.is_file() or not path.stat().st_size:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _batch(data)
        except (ValueError, IndexError):
            return 0


def _batch(data: mmap.mmap) -> int:
    graph = _spans(data, (0, len(data)), GRAPH)[-1]
    names = [name for each in _spans(data, graph, INITIALIZER) for name in _spans(data, each, STORED_NAME)]
    stored = {data[start:end] for start, end in names}
    for each in _spans(data, graph, INPUT):
        start, end = _spans(data, each, NAME)[0]
        if data[start:end] in stored:
            continue  # older files list their weights as inputs, too
        found = [each]
        for number in DIMENSIONS:
            found = [span for inside in found for span in _spans(data, inside, number)]
        values = [value for number, value in _fields(data, found[0]) if number == DIM_VALUE]
        return values[0] if values and isinstance(values[0], int) else 0
    return 0


def _spans(data: mmap.mmap, inside: Span, number: int) -> list[Span]:
    """The positions of the fields of a message whose field number is `number`."""
    return [span for found, span in _fields(data, inside) if found == number and isinstance(span, tuple)]


def _fields(data: mmap.mmap, inside: Span) -> Iterator[tuple[int, Union[int, Span]]]:
    """The number of each field of a message, with its value (integers) or its position. Raises ValueError or IndexError
    for a damaged message."""
    at, end = inside
    while at < end:
        key, at = _varint(data, at)
        if key & 7 == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size, at = {FIXED64: (8, at), FIXED32: (4, at)}.get(key & 7) or _varint(data, at)
        if key & 7 not in (FIXED64, FIXED32, BYTES) or at + size > end:
            raise ValueError("damaged")
        yield key >> 3, (at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """An integer in groups of 7 bits, the lowest first, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
