"""The command of the model zoo's READMEs (seeds 002 and 004), spelled from an ONNX file: its input's name and sizes,
the gears of a config, an AIPP file. Nothing is run here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from yacs.config import CfgNode

from atc import aipp, atc_rules
from atc.shapes import DYNAMIC
from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import AnyPath
from hrnet.io.tensors import input_shape

PRECISIONS = {"default": [], "fp16": ["--precision_mode=force_fp16"], "fp32": ["--precision_mode=force_fp32"]}


def batched(tensors: Sequence[TensorInfo], batch: int, free: int, where: Path) -> dict[str, list[int]]:
    """{input: shape} with axis 0 set to `batch`. Raises UserError where that axis is fixed, or where other than `free`
    further axes are free: none without gears, else height and width."""
    shapes = {}
    for tensor in tensors:
        rest = tensor.shape[1:]
        if not tensor.shape or tensor.shape[0] not in (DYNAMIC, batch):
            raise UserError(
                f"the batch of {tensor.name} is fixed",
                where=where,
                expected=f"{batch} or a free axis",
                found=tensor.shape,
                hint="export it with a dynamic batch: make onnx",
            )
        if rest.count(DYNAMIC) != free:
            raise UserError(
                f"{tensor.name} has {rest.count(DYNAMIC) or 'no'} free axes besides the batch",
                where=where,
                expected="[-1, C, -1, -1] for the gears of --cfg"
                if free
                else "[-1, C, H, W], or --cfg with INPUT.GEARS",
                found=tensor.shape,
            )
        shapes[tensor.name] = [batch, *rest]
    return shapes


def aipp_file(config: CfgNode, shapes: dict[str, list[int]], batch: int, where: Path) -> tuple[str, list[int]]:
    """The AIPP file of a config, and the shape that it gives the model's one input. Raises UserError where the model
    does not take the config's images."""
    width, height = config.MODEL.IMAGE_SIZE
    planes = [batch, *input_shape("float32", width, height)]
    if list(shapes.values()) != [planes]:
        hint = "give the config that it was exported by"
        raise UserError("the input is not that of the config", where=where, expected=planes, found=shapes, hint=hint)
    text = aipp.render(width, height, config.INPUT.MEAN, config.INPUT.STD)
    return text, [batch, *input_shape("uint8", width, height)]


def build_command(
    model: AnyPath, output: AnyPath, shapes: dict[str, list[int]], conf: Optional[AnyPath], options: Sequence[str]
) -> list[str]:
    """The arguments of the seed's command, in its order, then `conf` (the AIPP file) and `options`. `output` is without
    its ending."""
    layout = "NCHW" if all(len(shape) == 4 and DYNAMIC not in shape for shape in shapes.values()) else "ND"
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


def read_gears(config: CfgNode, batch: int) -> list[list[int]]:
    """INPUT.GEARS of a config; none of classification. Raises UserError where there are some and the batch is not 1."""
    gears: list[list[int]] = config.INPUT.get("GEARS", [])
    if gears and batch != 1:
        hint = "ais_bench sets the shape anew for each file"
        raise UserError("--batch with gears", expected=1, found=batch, hint=hint)
    return gears


def gear_flags(gears: Sequence[Sequence[int]], outputs: Sequence[str]) -> list[str]:
    """The seed's --dynamic_dims; --out_nodes by the outputs' names, where the seed has names that torch generated."""
    if not gears:
        return []
    dims = ";".join(",".join(map(str, gear)) for gear in gears)
    return [f"--dynamic_dims={dims}", f"--out_nodes={';'.join(outputs)}"]


def chip(soc_version: str) -> str:
    """The chip's name as atc takes it; npu-smi prints it without `Ascend`, and so it is often passed."""
    if f"Ascend{soc_version}" not in atc_rules.SOC_VERSIONS:
        return soc_version
    print(f"--soc_version={soc_version} is taken as Ascend{soc_version}", flush=True)
    return f"Ascend{soc_version}"
