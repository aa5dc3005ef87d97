"""ONNX file -> compiled model for one batch size, or for a config's gears, by atc or by its twin.

    python -m atc.convert --model build/hrnet_w18/model.onnx \\
        --output build/hrnet_w18/om/bs16-float32-fp32.onnx --batch 16 --backend onnxruntime
    python -m atc.convert --model build/higher_hrnet_w32_512/model.onnx --cfg configs/higher_hrnet_w32_512.yaml \\
        --output build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx --batch 1 --backend onnxruntime

Reads --model, writes --output and the record beside it (`<output>.json`, formats.CompiledModel, last). It spells the
command of the model zoo's README (seeds 002 and 004), checks it with `atc.rules`, prints it and runs it; the input's
name and its C, H, W come from the model. With --backend ascend the command is `atc` and --output ends in `.om`; with
onnxruntime it is `python -m atc.embedded` and `.onnx`. Either runs in a folder of its own, since atc litters the one
it stands in, and its result is looked for there, since atc may call it NAME_linux_x86_64.om. --precision fp16 or fp32
asks for it; default says nothing, which is float16 inside for atc, and float32 for its twin. With a --cfg that has
INPUT.GEARS height and width stay free and take those values (--dynamic_dims), and the outputs are asked for by name;
with --input uint8 the model then takes pixels, [1, H, W, 3], and normalises them by INPUT.MEAN and STD: such an ONNX
file is written beside --output (`<output without its ending>.pixels.onnx`), for atc to compile.

The tool's log is on the screen while it runs. Exit 1 where the tool refuses the model or leaves no file, with what to
do about its error code where atc.tool knows; 2 for a user's fault.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import onnx
from yacs.config import CfgNode

from atc import graph, pixels, rules
from atc.shapes import DYNAMIC, AtcError, at_gear
from atc.tool import ENDINGS, TOOLS, find_result, run_tool
from hrnet.cli import UserError, command
from hrnet.config import load_config
from hrnet.files import FILE_MODE, make_folder, replacing, sha256_file
from hrnet.formats import CompiledModel, Gear, TensorInfo

PIXELS_ENDING = ".pixels.onnx"
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
                mend="export it with a dynamic batch: make onnx",
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


def spell(model: str, output: str, shapes: dict[str, list[int]], options: Sequence[str]) -> list[str]:
    """The arguments of the seed's command, in its order, `options` last. `output` is without its ending."""
    layout = "NCHW" if all(len(shape) == 4 and DYNAMIC not in shape for shape in shapes.values()) else "ND"
    shape = ";".join(f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items())
    return [
        f"--framework={rules.ONNX}",
        f"--model={model}",
        f"--input_format={layout}",
        f"--input_shape={shape}",
        f"--output={output}",
        *options,
    ]


def read_gears(config: CfgNode, batch: int) -> list[list[int]]:
    """INPUT.GEARS of a config; none of classification. Raises UserError where there are some and the batch is not 1."""
    gears: list[list[int]] = config.INPUT.get("GEARS", [])
    if gears and batch != 1:
        mend = "ais_bench sets the shape anew for each file"
        raise UserError("--batch with gears", expected=1, found=batch, mend=mend)
    return gears


def write_pixels(source: onnx.ModelProto, config: CfgNode, model: Path, output: Path) -> Path:
    """Let `source`, read from `model`, take pixels, and write it beside `output`; returns the file."""
    try:
        pixels.take_pixels(source, config.INPUT.MEAN, config.INPUT.STD)
    except ValueError as fault:
        raise UserError(f"--input uint8: {fault}", where=model) from None
    path = output.with_suffix(PIXELS_ENDING)
    with replacing(path) as temporary:
        onnx.save(source, temporary)
    return path


def gear_flags(gears: Sequence[Sequence[int]], outputs: Sequence[str]) -> list[str]:
    """The seed's --dynamic_dims; --out_nodes by the outputs' names, where the seed has names that torch generated."""
    if not gears:
        return []
    dims = ";".join(",".join(map(str, gear)) for gear in gears)
    return [f"--dynamic_dims={dims}", f"--out_nodes={';'.join(outputs)}"]


def at_gears(
    source: onnx.ModelProto, shapes: dict[str, list[int]], gears: Sequence[Sequence[int]], where: Path
) -> list[Gear]:
    """What goes in and comes out at each gear. Raises UserError where the model does not fit one."""
    found = []
    for gear in gears:
        fixed = at_gear(shapes, gear)
        try:
            outputs = graph.output_shapes(source, fixed, strict=True)
        except ValueError as fault:
            raise UserError(f"does not fit the gear {list(gear)}: {fault}", where=where) from None
        found.append(Gear(next(iter(fixed.values())), [output.shape for output in outputs]))
    return found


def chip(soc_version: str) -> str:
    """The chip's name as atc takes it; npu-smi prints it without `Ascend`, and so it is often passed."""
    if f"Ascend{soc_version}" not in rules.SOC_VERSIONS:
        return soc_version
    print(f"--soc_version={soc_version} is taken as Ascend{soc_version}", flush=True)
    return f"Ascend{soc_version}"


def run(
    model: Path,
    output: Path,
    batch: int,
    cfg: Optional[Path],
    dtype: str,
    soc_version: str,
    precision: str,
    backend: str,
    log: str,
) -> Path:
    """Compile `model` to `output` and write its record; returns `output`. `cfg`: where its gears stand, and how it
    normalises pixels, for `dtype` uint8."""
    started = time.monotonic()
    ending, soc_version = ENDINGS[backend], chip(soc_version)
    if output.suffix != ending:
        raise UserError("wrong ending", where=output, expected=f"{ending} for {backend}", found=repr(output.suffix))
    if not model.is_file():
        raise UserError("no such model", where=model, mend="run make onnx")
    config = load_config(cfg) if cfg else None
    gears = read_gears(config, batch) if config else []
    if dtype == "uint8" and not gears:
        raise UserError("--input uint8", where=cfg, expected="--cfg with INPUT.GEARS", found=cfg and "none there")
    make_folder(output.parent)
    try:
        source, given = graph.read(model), model
        if config and dtype == "uint8":
            given = write_pixels(source, config, model, output)
        description, inputs = graph.describe(source), graph.inputs(source)
        shapes = batched(inputs, batch, 2 if gears else 0, model)
        options = [
            *gear_flags(gears, description.outputs),
            f"--soc_version={soc_version}",
            f"--log={log}",
            *PRECISIONS[precision],
        ]
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".atc-") as scratch:
            folder = Path(scratch).resolve()
            arguments = spell(os.path.relpath(given.resolve(), folder), output.stem, shapes, options)
            rules.check(rules.parse(arguments), description)
            shown = [*TOOLS[backend], *spell(str(given), str(output.with_suffix("")), shapes, options)]
            print(shlex.join(shown), flush=True)
            metadata = {entry.key: entry.value for entry in source.metadata_props}
            metadata["opset"] = str(
                max(entry.version for entry in source.opset_import if entry.domain in ("", "ai.onnx"))
            )
            outputs, told = graph.output_shapes(source, shapes), at_gears(source, shapes, gears, model)
            del source  # the tool needs the memory
            run_tool(backend, arguments, folder)
            result = find_result(folder, output.stem, ending)
            result.chmod(FILE_MODE)
            record = CompiledModel(
                model_sha256=sha256_file(result),
                source_sha256=sha256_file(model),
                command=shown,
                tool=TOOLS[backend][-1],
                inputs=[TensorInfo(tensor.name, tensor.dtype, shapes[tensor.name]) for tensor in inputs],
                outputs=outputs,
                gears=told,
                metadata=metadata,
            )
            record.write(output)  # before the model, whose presence means that both are there
            os.replace(result, output)
    except AtcError as fault:
        raise UserError(f"atc would refuse this: {fault}", where=model) from None
    size, seconds = output.stat().st_size / 1e6, time.monotonic() - started
    what = f"{len(gears)} gears" if gears else f"batch {batch}"
    print(f"wrote {output} ({what}, {size:.1f} MB, {seconds:.1f} s)")
    return output


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atc.convert", description="ONNX file -> compiled model, by atc or its twin")
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--output", type=Path, required=True, help="the compiled file, with its ending")
    parser.add_argument("--batch", type=int, default=16, help="the static batch size")
    parser.add_argument("--cfg", type=Path, help="the model's YAML: INPUT.GEARS are compiled, if it has any")
    parser.add_argument(
        "--input", choices=("float32", "uint8"), default="float32", dest="dtype", help="what comes in: NCHW, or pixels"
    )
    parser.add_argument("--soc_version", default="Ascend310P3", help="Ascend and the chip's name of npu-smi info")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="default", help="inside the compiled model")
    parser.add_argument("--backend", choices=sorted(ENDINGS), default="onnxruntime", help="ascend: atc; else its twin")
    parser.add_argument("--log", default="error", help="atc's log level: debug, info, warning, error, null")
    args = parser.parse_args(argv)
    if args.batch < 1:
        parser.error(f"--batch {args.batch}: expected at least 1")
    return args


@command
def main(argv: Optional[list[str]] = None) -> int:
    run(**vars(parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
