"""Build the atc command of the model zoo's READMEs: input names and shapes from the ONNX file, gears from the config,
and the AIPP file. Nothing is run.

AIPP computes `(in - mean - min) * var_reci` for each channel of uint8 pixels; normalising as
`(value / 255 - mean) / std` needs `min` and `var_reci` (source: ATC's documentation of the AIPP file).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from yacs.config import CfgNode

from atc import atc_rules
from atc.shapes import DYNAMIC
from hrnet import cann
from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import AnyPath
from hrnet.io.tensor_names import input_shape

PRECISIONS = {
    "default": [],
    "fp16": ["--precision_mode=force_fp16"],
    "fp32": ["--precision_mode=force_fp32"],
    "int8": [],  # the model contains the quantized operators; the others run in the default precision
}
PIXEL_MAX = 255


def shapes_for_batch(
    tensors: Sequence[TensorInfo],
    batch_size: int,
    dynamic: int,
    where: Path,
    size: Optional[Sequence[int]] = None,
) -> dict[str, list[int]]:
    """{input: shape} with axis 0 set to `batch_size`, and dynamic height and width set to `size` (width, height) if it
    is given. `dynamic`: how many other axes must be dynamic, 0 without gears, 2 (height and width) with gears. Raises
    UserError if the file has another fixed batch size or other dynamic axes."""
    shapes = {}
    for tensor in tensors:
        if not tensor.shape or tensor.shape[0] not in (DYNAMIC, batch_size):
            what, expected = f"the batch size of {tensor.name} is fixed", f"{batch_size} or a dynamic axis"
            hint = "export it with a dynamic batch size"
            if tensor.shape:
                hint = f"give --batch_size {tensor.shape[0]}, or {hint}"
            raise UserError(what, where=where, expected=expected, found=tensor.shape, hint=hint)
        shape = [batch_size, *tensor.shape[1:]]
        if size and len(shape) == 4:
            shape[2:] = [known if known != DYNAMIC else side for known, side in zip(shape[2:], size[::-1])]
        if shape.count(DYNAMIC) != dynamic:
            static = "[-1, C, H, W], or --cfg with INPUT.GEARS"
            expected = "[-1, C, -1, -1] for the gears of --cfg" if dynamic else static
            raise UserError(f"wrong dynamic axes of {tensor.name}", where=where, expected=expected, found=tensor.shape)
        shapes[tensor.name] = shape
    return shapes


def min_and_var_reci(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """AIPP's `min` and `var_reci` of each channel. `mean`, `std`: for pixels scaled to 0..1."""
    return [PIXEL_MAX * value for value in mean], [1 / (PIXEL_MAX * value) for value in std]


def render_aipp(width: int, height: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """The AIPP file that normalises RGB pixels; sizes in pixels. Numbers have 9 significant digits, enough for exact
    float32 values."""
    low, factor = min_and_var_reci(mean, std)
    lines = [
        "aipp_mode: static",
        "related_input_rank: 0",
        "input_format: RGB888_U8",
        f"src_image_size_w: {width}",
        f"src_image_size_h: {height}",
        "crop: false",
        "csc_switch: false",
        "rbuv_swap_switch: false",
        *(f"min_chn_{channel}: {value:.9g}" for channel, value in enumerate(low)),
        *(f"var_reci_chn_{channel}: {value:.9g}" for channel, value in enumerate(factor)),
    ]
    return "".join(["aipp_op {\n", *(f"    {line}\n" for line in lines), "}\n"])


def aipp_input(config: CfgNode, shapes: dict[str, list[int]], batch_size: int, where: Path) -> list[int]:
    """The input shape of the model with AIPP. Raises UserError unless its only input has the config's size."""
    width, height = config.MODEL.IMAGE_SIZE
    expected = [batch_size, *input_shape("float32", width, height)]
    if list(shapes.values()) != [expected]:
        hint = "give the config that the model was exported with"
        raise UserError("the input does not match the config", where=where, expected=expected, found=shapes, hint=hint)
    return [batch_size, *input_shape("uint8", width, height)]


def build_command(
    model: AnyPath,
    output: AnyPath,
    shapes: dict[str, list[int]],
    conf: Optional[AnyPath],
    options: Sequence[str],
    nchw: bool = True,
) -> list[str]:
    """The arguments of the model zoo's command in the same order, then `conf` (the AIPP file) and `options`. `output`:
    without suffix. `nchw`: False if an input is NHWC, a layout that ATC does not support for ONNX."""
    layout = "NCHW" if nchw and all(len(shape) == 4 and DYNAMIC not in shape for shape in shapes.values()) else "ND"
    shape = ";".join(f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items())
    return [
        f"--framework={atc_rules.ONNX}",
        f"--model={model}",
        f"--input_format={layout}",
        f"--input_shape={shape}",
        f"--output={output}",
        *([f"--insert_op_conf={conf}"] if conf else []),
        *options,
    ]


def config_gears(config: CfgNode, batch_size: int) -> list[list[int]]:
    """INPUT.GEARS of a config, empty for classification. Raises UserError for a batch size above 1 with gears:
    ais_bench sets the shape for each file."""
    gears: list[list[int]] = config.INPUT.get("GEARS", [])
    if gears and batch_size != 1:
        hint = "give --batch_size 1 (BATCH=1)"
        raise UserError("unsupported --batch_size for a model with gears", expected=1, found=batch_size, hint=hint)
    return gears


def gear_flags(gears: Sequence[Sequence[int]], outputs: Sequence[str]) -> list[str]:
    """--dynamic_dims and --out_nodes as in the model zoo's command, but --out_nodes has the names of the outputs
    instead of node names that torch generated."""
    if not gears:
        return []
    dims = ";".join(",".join(map(str, gear)) for gear in gears)
    return [f"--dynamic_dims={dims}", f"--out_nodes={';'.join(outputs)}"]


def chip(soc_version: str) -> str:
    """The chip's name for atc: with `Ascend`, which npu-smi does not print."""
    name = cann.chip_name(soc_version)
    if name != soc_version:
        print(f"--soc_version={soc_version}: using {name}", flush=True)
    if re.fullmatch(cann.CHIP, name) and name not in cann.CHIPS:
        nearest = cann.nearest_chip(name)
        print(f"--soc_version={name}: not in this project's list of chips; did you mean {nearest}?", flush=True)
    return name
