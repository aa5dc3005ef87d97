"""The base class of the runtimes: a description of inputs and outputs, and a method that computes a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo

if TYPE_CHECKING:
    import numpy as np  # infer.run imports this module, but not numpy


class Runtime(ABC):
    """A loaded model. Up to `requests` threads may call `compute` at the same time."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    requests: int
    version: str
    gears: Sequence[list[int]] = ()  # the input shapes that a model with dynamic axes was compiled for

    @abstractmethod
    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        """Compute one batch of the only input; returns the outputs in the model's order."""

    def one_input(self) -> TensorInfo:
        if len(self.inputs) != 1:
            found = [tensor.name for tensor in self.inputs]
            raise UserError("the model has several inputs", expected="one", found=found)
        return self.inputs[0]

    def read_gears(self, dynamic_dims: str) -> list[list[int]]:
        """The input shapes for atc's --dynamic_dims; none if it is empty."""
        shapes = []
        for gear in filter(None, dynamic_dims.split(";")):
            sizes = map(int, gear.split(","))
            shapes.append([next(sizes) if size == -1 else size for size in self.one_input().shape])
        return shapes

    def static_input(self) -> TensorInfo:
        """The only input. Raises UserError if its shape is not fixed."""
        tensor = self.one_input()
        if -1 in tensor.shape:
            hint = "compile it for one batch size: make om BATCH=16"
            raise UserError(f"input {tensor.name} has no fixed shape", found=tensor.shape, hint=hint)
        return tensor

    def check(self, batch: int, outputs: list[np.ndarray]) -> None:
        """Raise UserError unless the outputs of `batch` images have the declared dtypes and shapes. Called before files
        are written."""
        for tensor, output in zip(self.outputs, outputs):
            declared = [size if size > 0 else found for size, found in zip(tensor.shape, output.shape)]
            if output.dtype != tensor.dtype or list(output.shape) != declared:
                expected, found = f"{tensor.dtype}{tensor.shape}", f"{output.dtype}{list(output.shape)}"
                raise UserError(f"wrong output {tensor.name}", expected=expected, found=found)
            if output.ndim == 0 or output.shape[0] != batch:
                found = f"{list(output.shape)} for a batch of {batch}"
                raise UserError(f"output {tensor.name} has the wrong batch size", found=found)
