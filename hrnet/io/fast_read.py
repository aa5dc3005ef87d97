"""The usual outputs read some five times faster than the general readers of hrnet/io/formats.py do; whatever else a file
holds is left to them, to be read or refused."""

from __future__ import annotations

import os
from typing import Optional

import numpy as np

from hrnet.io.files import AnyPath

SHORTEST = len("0.000000")
LONGEST = 16  # 9 digits, point, 6 decimals: as millionths still exact in float64
SPACE, MINUS, POINT, ZERO = b" -.0"
MILLIONTHS = np.array([1e6, 0, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0])  # what each character of `0.000000` counts


def parse_line(text: bytes) -> Optional[np.ndarray]:
    """float32 [N], equal to `float()` of each word, of N words with six decimals and a single space between them, as
    `%f ` prints them; None where the text is anything else."""
    characters = np.frombuffer(b" " * LONGEST + text.rstrip() + b" ", np.uint8)
    ends = np.flatnonzero(characters == SPACE)[LONGEST - 1 :]
    starts, ends = ends[:-1] + 1, ends[1:]
    negative = characters[starts] == MINUS
    lengths = ends - starts - negative
    if lengths.min() < SHORTEST or lengths.max() > LONGEST:
        return None
    every_eight = np.ndarray(characters.size - SHORTEST + 1, np.uint64, characters, strides=(1,))
    tails = every_eight[ends - SHORTEST].view(np.uint8).reshape(-1, SHORTEST)
    digits = tails - ZERO  # what stands before "0" wraps round to more than 9
    digits[:, 1] = tails[:, 1] != POINT
    if digits[:, 1].any() or digits.max() > 9:
        return None
    values = digits @ MILLIONTHS
    for place in range(SHORTEST, lengths.max()):
        further = np.where(lengths > place, characters[ends - 1 - place] - ZERO, 0)
        if further.max() > 9:
            return None
        values += further * 10.0 ** (place - 1)
    values /= 1e6  # rounded once, as the nearest float64 of the decimal number is
    return np.negative(values, where=negative, out=values).astype(np.float32)


def npy_header(path: AnyPath) -> Optional[bytes]:
    """What stands before the values of an npy of float32 in C order; None for an npy of other values."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, fortran_order, dtype = read(file)
        length = file.tell()
        file.seek(0)
        return file.read(length) if dtype == np.dtype("<f4") and not fortran_order else None


def read_values_into(row: np.ndarray, path: AnyPath, header: bytes = b"") -> bool:
    """Fill `row` from a file of exactly `header` and the row's bytes; False where there is no such file."""
    found, one_more = bytearray(len(header)), bytearray(1)
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            count = os.readv(descriptor, [found, row.view(np.uint8).data, one_more])
        finally:
            os.close(descriptor)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return count == len(header) + row.nbytes and found == header
