"""Models with gears: the model is compiled for a few fixed shapes, and one of them is set before each run.

`--auto_set_dymdims_mode 1` sets the shape of each .npy, `--dymDims "input:1,3,512,640"` sets one shape for all inputs.
The emulator rejects the same inputs as the tool and the device, with the same message if the tool has one.

Source: ais_bench 0.0.2 and its aclruntime, https://gitee.com/ascend/tools ais-bench_workload/tool/ais_bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo
from infer.emulator.pipeline import Pipeline
from infer.runtimes.base import Runtime

NO_GEARS = "the dynamic_dims parameter is not specified for model conversion"
HINT = "remove --auto_set_dymdims_mode and --dymDims"


def shape_text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def check_gear(shape: Sequence[int], gears: Sequence[Sequence[int]], where: object) -> None:
    """Raise UserError if `shape` is not one of the gears."""
    if list(shape) not in [list(gear) for gear in gears]:
        expected, found = f"one of {'; '.join(map(shape_text, gears))}", shape_text(shape)
        raise UserError("the dynamic_dims parameter is not correct", where=where, expected=expected, found=found)


def parse_dims(text: str, name: str) -> list[int]:
    """The shape in --dymDims. `name`: the name of the model's input."""
    given, colon, sizes = text.rpartition(":")
    if not colon or given != name or not all(size.isdecimal() for size in sizes.split(",")):
        raise UserError("invalid --dymDims", expected=f"{name}:1,3,512,640", found=text)
    return [int(size) for size in sizes.split(",")]


def fixed_input(runtime: Runtime, dims: Optional[str]) -> TensorInfo:
    """The model's input with its fixed shape or with the gear of --dymDims. Raises UserError if they do not match."""
    gears = runtime.gears
    if not gears:
        if dims:
            raise UserError(NO_GEARS, hint=HINT)
        return runtime.static_input()
    if not dims:
        expected = "--auto_set_dymdims_mode 1 or --dymDims"
        raise UserError(f"no gear is set for a model with {len(gears)} gears", expected=expected)
    tensor = runtime.one_input()
    shape = parse_dims(dims, tensor.name)
    check_gear(shape, gears, "--dymDims")
    return TensorInfo(tensor.name, tensor.dtype, shape)


def pipeline(
    runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, auto: bool, dims: Optional[str], flip: bool
) -> Pipeline:
    """The pipeline for --auto_set_dymdims_mode, --dymDims and --flip. Raises UserError if the model does not support
    them."""
    if flip and not auto:
        raise UserError("--flip needs --auto_set_dymdims_mode 1")
    if not auto:
        return Pipeline(runtime, inputs, folder, suffix, fixed_input(runtime, dims))
    if not runtime.gears:
        raise UserError(NO_GEARS, hint=HINT)
    return GearPipeline(runtime, inputs, folder, suffix, flip)


class GearPipeline(Pipeline):
    """Each input is one batch and sets the shape. All inputs are checked before the first is computed."""

    def __init__(self, runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, flip: bool) -> None:
        """`flip`: flip each input, float32 [1, 3, H, W] or uint8 [1, H, W, 3], from left to right."""
        tensor, gears = runtime.one_input(), runtime.gears
        self.dtype, self.flip = np.dtype(tensor.dtype), flip
        self.width_axis = 3 if tensor.shape[1] > 0 else 2
        for file in inputs:
            if file.suffix.lower() != ".npy":
                raise UserError("wrong format for --auto_set_dymdims_mode", where=file, expected=".npy", found=".bin")
            check_gear(self._load_npy(file, mapped=True).shape, gears, file)
        first = TensorInfo(tensor.name, tensor.dtype, list(self._load_npy(inputs[0], mapped=True).shape))
        super().__init__(runtime, inputs, folder, suffix, first)

    def order(self) -> Sequence[int]:
        """The largest images first. Then only a small image is left when the first core becomes idle at the end."""
        return sorted(range(len(self.inputs)), key=lambda at: -self.inputs[at].stat().st_size)

    def _read(self, files: list[Path], buffer: np.ndarray) -> np.ndarray:
        image = self._load_npy(files[0])
        return np.ascontiguousarray(np.flip(image, self.width_axis) if self.flip else image)
