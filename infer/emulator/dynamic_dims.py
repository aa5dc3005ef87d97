"""Models with gears: a few fixed shapes that they were compiled for, one of which is set before each run.

`--auto_set_dymdims_mode 1` sets the shape of each .npy, `--dymDims "input:1,3,512,640"` one for all inputs. Refused is
what the tool or the device refuses, in their words where they have any.

Source: ais_bench 0.0.2 and its aclruntime, https://gitee.com/ascend/tools ais-bench_workload/tool/ais_bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo
from infer.emulator.pipeline import Pipeline
from infer.runtimes.base import Runtime

NO_GEARS = "the dynamic_dims parameter is not specified for model conversion"
LEAVE_OUT = "leave out --auto_set_dymdims_mode and --dymDims"


def told(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def check_gear(shape: Sequence[int], gears: Sequence[Sequence[int]], where: object) -> None:
    if list(shape) not in [list(gear) for gear in gears]:
        expected = f"one of the model's {len(gears)} gears: {'; '.join(map(told, gears))}"
        raise UserError("the dynamic_dims parameter is not correct", where=where, expected=expected, found=told(shape))


def parse_dims(text: str, name: str) -> list[int]:
    """--dymDims as a shape; `name` is that of the model's input."""
    given, colon, sizes = text.rpartition(":")
    if not colon or given != name or not all(size.isdecimal() for size in sizes.split(",")):
        raise UserError("--dymDims", expected=f"{name}:1,3,512,640", found=text)
    return [int(size) for size in sizes.split(",")]


class Options(NamedTuple):
    """What a call asks for besides its files."""

    auto: bool  # --auto_set_dymdims_mode
    dims: Optional[str]  # --dymDims
    flip: bool  # ours: inputs are mirrored as they are read


def fixed_input(runtime: Runtime, dims: Optional[str]) -> TensorInfo:
    """The model's input at its own shape, or at the gear of --dymDims. Raises UserError where they do not fit."""
    gears = runtime.gears()
    if not gears:
        if dims:
            raise UserError(NO_GEARS, hint=LEAVE_OUT)
        return runtime.static_input()
    if not dims:
        expected = "--auto_set_dymdims_mode 1 or --dymDims"
        raise UserError(f"the model has {len(gears)} gears and none is set", expected=expected)
    tensor = runtime.one_input()
    shape = parse_dims(dims, tensor.name)
    check_gear(shape, gears, "--dymDims")
    return TensorInfo(tensor.name, tensor.dtype, shape)


def pipeline(runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, options: Options) -> Pipeline:
    """The pipeline for what the options ask of the model. Raises UserError where they do not fit it."""
    gears = runtime.gears()
    if options.auto and not gears:
        raise UserError(NO_GEARS, hint=LEAVE_OUT)
    if options.flip and not options.auto:
        raise UserError("--flip goes with --auto_set_dymdims_mode 1 alone")
    if options.auto:
        return GearPipeline(runtime, inputs, folder, suffix, gears, options.flip)
    return Pipeline(runtime, inputs, folder, suffix, fixed_input(runtime, options.dims))


class GearPipeline(Pipeline):
    """Each input goes through alone and sets the shape. All are looked at before the first is computed."""

    def __init__(
        self,
        runtime: Runtime,
        inputs: list[Path],
        folder: Path,
        suffix: str,
        gears: Sequence[Sequence[int]],
        flip: bool,
    ) -> None:
        """`flip`: mirror each input, float32 [1, 3, H, W] or uint8 [1, H, W, 3]."""
        tensor = runtime.one_input()
        self.dtype, self.flip = np.dtype(tensor.dtype), flip
        self.across = 3 if tensor.shape[1] > 0 else 2
        for file in inputs:
            if file.suffix.lower() != ".npy":
                raise UserError("holds no shape for --auto_set_dymdims_mode", where=file, expected=".npy", found=".bin")
            check_gear(self._load_npy(file, mapped=True).shape, gears, file)
        first = TensorInfo(tensor.name, tensor.dtype, list(self._load_npy(inputs[0], mapped=True).shape))
        super().__init__(runtime, inputs, folder, suffix, first)

    def _read(self, files: list[Path], buffer: np.ndarray) -> np.ndarray:
        image = self._load_npy(files[0])
        return np.ascontiguousarray(np.flip(image, self.across) if self.flip else image)
