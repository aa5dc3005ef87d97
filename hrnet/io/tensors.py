"""Tensor files: inputs and outputs of a model, one file for each image, and their names.

<stem>.bin, <stem>.npy      an input; raw little-endian values in C order without a header, or npy with the batch axis
<stem>_<k>.bin|npy|txt      output k of one image, with the batch axis; txt as ais_bench prints it

Every reader checks what it reads and raises FormatError with the file, what was expected and what was found.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.io.files import AnyPath, write_atomic, write_text
from hrnet.io.records import FormatError


def write_bin(path: AnyPath, tensor: np.ndarray) -> None:
    """Write raw little-endian values in C order without a header, atomically."""
    tensor = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    write_atomic(path, tensor.data)


def write_npy(path: AnyPath, tensor: np.ndarray) -> None:
    """Write little-endian values in C order as npy, atomically and without copying them in memory."""
    tensor = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    header = io.BytesIO()
    description = {"descr": tensor.dtype.str, "fortran_order": False, "shape": tensor.shape}
    np.lib.format.write_array_header_1_0(header, description)
    write_atomic(path, header.getvalue(), tensor.data)


def format_txt(tensor: np.ndarray) -> str:
    """A tensor in ais_bench's TXT format: one line for each row of the last axis, `%f ` or `%d ` for each value."""
    pattern = "%d " if np.issubdtype(tensor.dtype, np.integer) else "%f "
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
    return "".join(pattern * row.size % tuple(row.tolist()) + "\n" for row in rows)


def read_txt(path: AnyPath, hint: Optional[str] = None) -> np.ndarray:
    """Read a TXT output as float32 [rows, last axis]."""
    try:
        lines = Path(path).read_bytes().splitlines()
        rows = [np.array(line.split(), dtype=np.float32) for line in lines if line.strip()]
    except ValueError:
        raise FormatError("not a table of numbers", where=path, hint=hint) from None
    if not rows:
        raise FormatError("no numbers", where=path, hint=hint)
    if len({row.size for row in rows}) != 1:
        found = sorted({row.size for row in rows})
        raise FormatError("rows differ in length", where=path, found=found, hint=hint)
    return np.stack(rows)


def read_output(path: AnyPath, dtype: str = "float32", hint: Optional[str] = None) -> np.ndarray:
    """Read one output (or the input) of one image in the format of its extension; a bin has no shape and is returned
    flat. `hint`: the command that writes the files again."""
    path = Path(path)
    try:
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            if array.dtype.kind not in "fiu":
                raise FormatError("not a tensor of numbers", where=path, found=array.dtype.name, hint=hint)
            return array
        if path.suffix == ".txt":
            return read_txt(path, hint)
        if path.suffix == ".bin":
            size = path.stat().st_size
            if size == 0 or size % np.dtype(dtype).itemsize:
                raise FormatError(f"not a {dtype} tensor", where=path, found=f"{size} bytes", hint=hint)
            return np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"))
    except FileNotFoundError:
        raise FormatError("file is missing", where=path, hint=hint) from None
    except (ValueError, EOFError) as error:
        raise FormatError(f"not a readable tensor: {error}", where=path, hint=hint) from None
    raise FormatError("unknown tensor format", where=path, expected="bin, npy or txt")


def write_output(path: AnyPath, tensor: np.ndarray) -> None:
    """Write one output of one image in the format of its extension, atomically."""
    path = Path(path)
    if path.suffix == ".bin":
        write_bin(path, tensor)
    elif path.suffix == ".txt":
        write_text(path, format_txt(tensor))
    else:
        write_npy(path, tensor)
