"""Served models: their base classes, and the compiled model itself (`<MODEL>_tensor`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar, Union

import numpy as np

from hrnet.cli import WorkFailed
from hrnet.io.compiled import CompiledModel
from preprocess.folder import Rejection
from serve.batches import Prepared, Result
from serve.protocol import BYTES, NAMES, RequestError, Spec, Tensor, Values, reject

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # first bytes of a file
T = TypeVar("T")


class Served(ABC):
    """A model that clients call by its name, with one input and one or more outputs."""

    name: str
    input: Spec
    outputs: list[Spec]
    slow_answer = False  # whether `answer` takes so long that it must not run in the event loop

    @abstractmethod
    def prepare(self, values: Values) -> Prepared:
        """The rows of a request, and a context for `answer`. Called in a thread. Raises RequestError."""

    @abstractmethod
    def answer(self, context: Any, results: Sequence[Result]) -> list[Tensor]:
        """The outputs for a request, from the results of its rows and the context from `prepare`."""


class TensorModel(Served):
    """The compiled model itself: input and outputs have its dtypes and shapes; a request has any number of images."""

    def __init__(self, name: str, compiled: CompiledModel) -> None:
        (given,) = compiled.inputs
        self.name, self.compiled = f"{name}_tensor", compiled
        self.input = Spec(given.name, NAMES[given.dtype], [-1, *given.shape[1:]])
        self.outputs = [Spec(each.name, NAMES[each.dtype], [-1, *each.shape[1:]]) for each in compiled.outputs]

    def prepare(self, values: Values) -> Prepared:
        assert isinstance(values, np.ndarray)
        if not self.compiled.accepts(values.shape[1:]):
            gears = ", ".join(str(gear.input[1:]) for gear in self.compiled.gears)
            reject(f"wrong shape of {self.input.name}", f"for each image one of {gears}", list(values.shape[1:]))
        return Prepared(list(values))

    def answer(self, context: Any, results: Sequence[Result]) -> list[Tensor]:
        return output_tensors(self.outputs, results)


class ImageModel(Served):
    """A model whose input is image files, elements of type BYTES."""

    def __init__(self, name: str) -> None:
        self.name, self.input = name, Spec("image", BYTES, [-1])


def output_tensors(outputs: Sequence[Spec], results: Sequence[Result]) -> list[Tensor]:
    """The compiled model's outputs for all rows, joined along the batch axis."""
    joined = [np.concatenate(rows) for rows in zip(*(result.outputs for result in results))]
    return [Tensor(spec.name, values, values.shape) for spec, values in zip(outputs, joined)]


def check_kind(number: int, data: bytes) -> None:
    """Raise RequestError unless the file is a JPEG or PNG: for some other formats Pillow runs other programs."""
    if not data.startswith((JPEG, PNG)):
        reject(f"image {number} is not a JPEG or PNG file", found=data[:8])


def accepted(number: int, found: Union[T, Rejection]) -> T:
    """Return `found`; raise RequestError if it is a Rejection. `number`: of the image in the request, from 1."""
    if isinstance(found, Rejection):
        raise RequestError(f"image {number}: {found.reason}")
    return found


def check_finite(results: Sequence[Result]) -> None:
    """Raise WorkFailed for NaN and infinite outputs, which postprocessing rejects too."""
    if not all(np.isfinite(output).all() for result in results for output in result.outputs):
        hint = "check the weights; if values overflow in float16, compile with PRECISION=fp32"
        raise WorkFailed("the model's output is NaN or infinite", hint=hint)
