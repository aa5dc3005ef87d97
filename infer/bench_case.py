"""What a sweep times: a model of one shape, or one gear of a model with gears, and the inputs that go through it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import make_folder


class Case(NamedTuple):
    """What a row is of: a model at its own shape, or at one of its gears."""

    model: Path
    compiled: CompiledModel
    shape: list[int]  # of the input, with the batch axis

    @property
    def tensor(self) -> TensorInfo:
        known = self.compiled.inputs[0]
        return TensorInfo(known.name, known.dtype, self.shape)

    @property
    def gear(self) -> Optional[list[int]]:
        """Height and width; None of a static model."""
        free = [size for size, known in zip(self.shape, self.compiled.inputs[0].shape) if known == -1]
        return free or None

    def bytes_of_all(self, images: int) -> int:
        """Of so many inputs and their outputs."""
        return images * (self.tensor.bytes_of_one() + sum(self.compiled.output_bytes(self.shape[1:])))


def cases(model: Path, compiled: CompiledModel) -> list[Case]:
    """The rows of one model."""
    shapes = [gear.input for gear in compiled.gears] or [compiled.inputs[0].shape]
    return [Case(model, compiled, shape) for shape in shapes]


def random_input(tensor: TensorInfo, seed: int) -> np.ndarray:
    """One image's input: normal values, or each value of an integer type alike."""
    generator, dtype, shape = np.random.default_rng(seed), np.dtype(tensor.dtype), tensor.shape[1:]
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_inputs(folder: Path, case: Case, count: int) -> Path:
    """A folder of seeded random inputs alone, as preprocess writes images: those of a gear tell their shape."""
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    for i in range(count):
        values = random_input(case.tensor, i)
        if case.gear:
            tensors.write_npy(folder / f"random{i}.npy", values[None])
        else:
            tensors.write_bin(folder / f"random{i}.bin", values)
    return folder
