"""Models with gears: a few fixed shapes that they were compiled for, one of which is set before each run.

`--auto_set_dymdims_mode 1` sets the shape of each .npy, `--dymDims "input:1,3,512,640"` one for all inputs. Refused is
what the tool or the device refuses, in their words where they have any.

Source: ais_bench 0.0.2 and its aclruntime, https://gitee.com/ascend/tools ais-bench_workload/tool/ais_bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.cli import UserError
from infer.pipeline import Pipeline
from infer.runtimes.base import Runtime


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


def pipeline(
    runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, auto: bool, dims: Optional[str]
) -> Pipeline:
    """The pipeline for what the options ask of the model. Raises UserError where they do not fit it."""
    gears = runtime.gears()
    if not gears:
        if auto or dims:
            raise UserError(
                "the dynamic_dims parameter is not specified for model conversion",
                mend="leave out --auto_set_dymdims_mode and --dymDims",
            )
        return Pipeline(runtime, inputs, folder, suffix)
    if auto:
        return GearPipeline(runtime, inputs, folder, suffix, gears)
    if not dims:
        expected = "--auto_set_dymdims_mode 1 or --dymDims"
        raise UserError(f"the model has {len(gears)} gears and none is set", expected=expected)
    shape = parse_dims(dims, runtime.one_input().name)
    check_gear(shape, gears, "--dymDims")
    return Pipeline(runtime, inputs, folder, suffix, shape)


class GearPipeline(Pipeline):
    """Each input goes through alone and sets the shape. All are looked at before the first is computed."""

    def __init__(
        self, runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, gears: Sequence[Sequence[int]]
    ) -> None:
        self.dtype = np.dtype(runtime.one_input().dtype)
        for file in inputs:
            if file.suffix.lower() != ".npy":
                raise UserError("holds no shape for --auto_set_dymdims_mode", where=file, expected=".npy", found=".bin")
            check_gear(self._load_npy(file, mapped=True).shape, gears, file)
        super().__init__(runtime, inputs, folder, suffix, self._load_npy(inputs[0], mapped=True).shape)

    def _read(self, files: list[Path], buffer: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._load_npy(files[0]))
