"""The record beside a compiled model (`<model>.json`, kind `compiled`): its inputs, outputs and gears."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, from_json, read_kind, read_record, write_record
from hrnet.io.tensor_names import DTYPES

OF_A_BATCH = ("--input_shape", "--output", "--batch_size")  # flags whose values differ between batch sizes
INSTEAD = {  # for a file given as ONNX= that make onnx did not write: kind of the record beside it -> hint
    "quantized": "remove ONNX= and give PRECISION=int8: make then quantizes",
    "compiled": "give OM=<file> for a compiled model",
}


def check_export(model: AnyPath) -> None:
    """Raise FormatError if an exported model does not match its record (`<model>.json`, kind `export`). A model from
    another tool has no record and is not checked."""
    path = Path(f"{model}.json")
    kind = read_kind(path)
    if kind in INSTEAD:
        what, hint = "not an exported model", INSTEAD[kind]
        raise FormatError(what, where=model, expected="ONNX in float32", found=kind, hint=hint)
    if path.is_file() and read_record(path, "export", hint="make onnx").get("model_sha256") != sha256_file(model):
        hint = f"rm {model}; make onnx; or give your own model: ONNX=<file>"
        raise FormatError(
            "damaged or replaced after its export", where=model, expected=f"the hash in {path}", hint=hint
        )


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a compiled model."""

    name: str
    dtype: str
    shape: list[int]  # with the batch axis; -1 where it varies

    def bytes_of_one(self) -> int:
        """Bytes of one image."""
        return math.prod(abs(size) for size in self.shape[1:]) * DTYPES[self.dtype]


def check_dtypes(tensors: Sequence[TensorInfo], path: AnyPath) -> None:
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            expected = ", ".join(DTYPES)
            raise FormatError(f"invalid dtype of {tensor.name}", where=path, expected=expected, found=tensor.dtype)


@dataclass(frozen=True)
class Gear:
    """One of the shapes that a model with dynamic axes was compiled for, with the batch axis."""

    input: list[int]
    outputs: list[list[int]]


@dataclass(frozen=True)
class CompiledModel:
    """The record beside a compiled model (`<model>.json`), since an .om cannot be inspected without its device.
    Written by `atc.convert`, `atc.adopt` (for a model compiled elsewhere) and `pth2onnx.static` (for TorchScript)."""

    model_sha256: str  # of the compiled file
    source_sha256: str  # of the ONNX or TorchScript file; empty if it is unknown
    command: list[str]
    tool: str  # "atc", "atc.emulator", "aoe", "atc.adopt" or "pth2onnx.static"
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    gears: list[Gear]  # of a model with dynamic axes; empty for a static model
    metadata: dict[str, str]  # of the source file: name of the model, hashes of config and weights, versions

    @staticmethod
    def record_path(model: AnyPath) -> Path:
        return Path(f"{model}.json")

    @property
    def origin(self) -> tuple[Any, ...]:
        """What the model was made from, and how; equal for models that differ only in their batch size. Without a known
        source: the model's hash."""
        if not self.source_sha256:
            return (self.model_sha256,)
        flags = re.findall(r"--\w+[= ]\S*", " ".join(self.command))
        words = [flag for flag in flags if re.split("[= ]", flag)[0] not in OF_A_BATCH]
        return self.source_sha256, self.tool, words, self.inputs[0].dtype, self.metadata

    def accepts(self, image: Sequence[int]) -> bool:
        """Whether this shape, without the batch axis, is one of the model's input shapes."""
        shapes = [gear.input for gear in self.gears] or [self.inputs[0].shape]
        return list(image) in [shape[1:] for shape in shapes]

    def output_bytes(self, image: Sequence[int]) -> list[int]:
        """Bytes of each output for one input of this shape (without the batch axis), which the model must accept."""
        shapes = [output.shape for output in self.outputs]
        for gear in self.gears:
            if gear.input[1:] == list(image):
                shapes = gear.outputs
        return [TensorInfo(known.name, known.dtype, shape).bytes_of_one() for known, shape in zip(self.outputs, shapes)]

    def write(self, model: AnyPath) -> None:
        write_record(self.record_path(model), "compiled", asdict(self))

    @staticmethod
    def read(model: AnyPath) -> CompiledModel:
        """Read the record beside `model`. Raises FormatError if it describes another file."""
        path = CompiledModel.record_path(model)
        adopt = f"{sys.executable} -m atc.adopt --om "
        if Path(model).suffix == ".ts":
            adopt = "make om OM= BACKEND=<torchscript or torch_aie> TS="
        hint = f"if make om made the model: rm {model}; make om; if another tool made it: {adopt}{model}"
        content = read_record(path, "compiled", hint=hint)
        compiled: CompiledModel = from_json(CompiledModel, content, path, "record")
        check_dtypes([*compiled.inputs, *compiled.outputs], path)
        free = any(-1 in tensor.shape for tensor in compiled.inputs)
        if free != bool(compiled.gears) or any(len(gear.outputs) != len(compiled.outputs) for gear in compiled.gears):
            expected = "gears that each list all outputs if the model has dynamic axes, else no gears"
            raise FormatError(
                "invalid gears", where=path, expected=expected, found=compiled.gears, hint=f"rm {model}; make om"
            )
        if compiled.model_sha256 != sha256_file(model):
            expected = f"the hash of {model}"
            raise FormatError("describes a different model", where=path, expected=expected, hint=hint)
        return compiled
