"""Join the calibration inputs of preprocess into whole batches, which amct_onnx reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.cli import UserError
from hrnet.io.files import make_folder, write_atomic
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError
from hrnet.io.tensor_names import NPY_HEADER

LARGEST_BATCH = 16  # images in one file, if the model accepts any batch


def batch_size(fixed: Optional[int], images: int, where: Path, largest: int = LARGEST_BATCH) -> int:
    """The model's batch size `fixed`, or, if that is None (any size), the largest size up to `largest` that uses all
    images. Raises UserError if there are fewer images than the model's batch size."""
    if fixed is None:
        return max(size for size in range(1, largest + 1) if images % size == 0)
    if images < fixed:
        hint = f"give CALIB={fixed} and a data set with as many images, or an ONNX file with a dynamic batch"
        raise UserError(
            "fewer images than the model's batch", where=where, expected=f"at least {fixed}", found=images, hint=hint
        )
    return fixed


def whole_batches(images: int, batch: int) -> int:
    """The number of images in whole batches of the model; prints a line if some images are not used."""
    used = images // batch * batch
    if used < images:
        print(f"the model's batch is {batch}: {used} of {images} calibration images are used")
    return used


def fits(shape: Sequence[int], declared: Sequence[Optional[int]]) -> bool:
    """Whether the model accepts a shape; None in `declared`: any size."""
    return len(shape) == len(declared) and all(size in (None, own) for own, size in zip(shape, declared))


def find_inputs(folder: Path, shape: Sequence[Optional[int]]) -> dict[str, Path]:
    """{path of an image in the data set: its input}. `shape`: [C, H, W] of the model; None: any size. Raises UserError
    unless they are float32 files of this shape: .npy if H and W vary, otherwise .bin."""
    path, suffix = folder / "manifest.json", "npy" if None in shape else "bin"
    manifest = Manifest.read(path)
    if (manifest.dtype, manifest.suffix) != ("float32", suffix):
        found = f"{manifest.dtype} in .{manifest.suffix}"
        raise UserError("not inputs for calibration", where=path, expected=f"float32 in .{suffix}", found=found)
    wrong = next((image for image in manifest.images if not fits(image.shape, shape)), None)
    if wrong:
        hint = "give the config that the model was exported with"
        raise UserError("inputs do not fit the model", where=path, expected=list(shape), found=wrong.shape, hint=hint)
    header = NPY_HEADER if suffix == "npy" else 0
    inputs = {}
    for image in manifest.images:
        file = inputs[image.source] = folder / f"{image.stem}.{suffix}"
        size = header + int(np.prod(image.shape)) * np.dtype(np.float32).itemsize
        if not file.is_file() or file.stat().st_size != size:
            hint = f"rm {path}; make quantize"
            raise FormatError("missing or incomplete", where=file, expected=f"{size} bytes", hint=hint)
    return inputs


def write_batches(folder: Path, inputs: Sequence[Path], batch: int) -> int:
    """Write the inputs as whole batches, in order, and remove other files; returns the number of batches. `batch`: 1
    for .npy, which contain one image each."""
    count = len(inputs) // batch
    suffix = inputs[0].suffix
    names = [f"batch_{number:05}{suffix}" for number in range(count)]  # amct_onnx sorts names as text
    make_folder(folder)
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    for number, name in enumerate(names):
        write_atomic(folder / name, *(path.read_bytes() for path in inputs[number * batch : (number + 1) * batch]))
    return count
