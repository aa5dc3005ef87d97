"""Read the logits of a classifier from its output files, one per image. Files in the usual form are read faster
than by hrnet/io/tensors.py; all other files are read or rejected by hrnet/io/tensors.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.io import tensors
from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError

SHORTEST = len("0.000000")
LONGEST = 16  # 9 digits, point, 6 decimals; without the point it is an integer of 15 digits, exact in float64
SPACE, MINUS, POINT, ZERO = b" -.0"
MILLIONTHS = np.array([1e6, 0, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0])  # value of each character position in `0.000000`


def read_logits(files: Sequence[AnyPath], dtype: str, size: int, hint: Optional[str]) -> np.ndarray:
    """Read N files of one format to float32 [N, C]. C is `size`; if it is 0, the number of values in the first file.
    Raises FormatError for an unreadable file, another number of classes, NaN and infinity."""
    size = size or tensors.read_output(files[0], dtype, hint).size
    ending = os.path.splitext(files[0])[1]
    logits = np.empty((len(files), size), dtype if ending == ".bin" else np.float32)
    header = npy_header(files[0]) if ending == ".npy" else b""
    for row, file in zip(logits, files):
        if read_line_into(row, file) if ending == ".txt" else read_values_into(row, file, header):
            continue
        values = tensors.read_output(file, dtype, hint).reshape(-1)
        if values.size != size:
            raise FormatError("wrong number of classes", where=file, expected=size, found=values.size, hint=hint)
        row[:] = values
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        first = int(finite.argmin())
        count = size - np.isfinite(logits[first]).sum()
        found = f"{count} of {size} values NaN or infinite"
        hint = "check the input and the weights; if values overflow in float16, give PRECISION=fp32"
        raise FormatError("invalid values", where=files[first], expected="numbers", found=found, hint=hint)
    return logits.astype(np.float32, copy=False)


def read_values_into(row: np.ndarray, path: AnyPath, header: Optional[bytes]) -> bool:
    """Read `row` from a file that contains exactly `header` and the row's values. Returns False for any other file, and
    if `header` is None."""
    if header is None:
        return False
    found, one_more = bytearray(len(header)), bytearray(1)
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            count = os.readv(descriptor, [found, row.view(np.uint8).data, one_more])
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return count == len(header) + row.nbytes and found == header


def npy_header(path: AnyPath) -> Optional[bytes]:
    """The bytes before the values of an .npy file with float32 in C order; None for any other file."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, fortran_order, dtype = read(file)
            length = file.tell()
            file.seek(0)
            return file.read(length) if dtype == np.dtype("<f4") and not fortran_order else None
    except (OSError, ValueError):
        return None


def read_line_into(row: np.ndarray, path: AnyPath) -> bool:
    """Read `row` from a file by `parse_line`. Returns False if that is not possible."""
    try:
        values = parse_line(Path(path).read_bytes())
    except OSError:
        return False
    if values is None or values.size != row.size:
        return False
    row[:] = values
    return True


def parse_line(text: bytes) -> Optional[np.ndarray]:
    """Parse N numbers with six decimals and single spaces between them, as printed by `%f `, to float32 [N]; equal to
    `float()` of each word. None for any other text."""
    characters = np.frombuffer(b" " * LONGEST + text.rstrip() + b" ", np.uint8)
    ends = np.flatnonzero(characters == SPACE)[LONGEST - 1 :]
    starts, ends = ends[:-1] + 1, ends[1:]
    negative = characters[starts] == MINUS
    lengths = ends - starts - negative
    if lengths.min() < SHORTEST or lengths.max() > LONGEST:
        return None
    every_eight = np.ndarray(characters.size - SHORTEST + 1, np.uint64, characters, strides=(1,))
    tails = every_eight[ends - SHORTEST].view(np.uint8).reshape(-1, SHORTEST)
    digits = tails - ZERO  # a character below "0" wraps to a value above 9
    digits[:, 1] = tails[:, 1] != POINT
    if digits[:, 1].any() or digits.max() > 9:
        return None
    values = digits @ MILLIONTHS
    for place in range(SHORTEST, lengths.max()):
        digit = np.where(lengths > place, characters[ends - 1 - place] - ZERO, 0)
        if digit.max() > 9:
            return None
        values += digit * 10.0 ** (place - 1)
    values /= 1e6  # rounded only here, so it is the float64 that is nearest to the decimal number
    return np.negative(values, where=negative, out=values).astype(np.float32)
