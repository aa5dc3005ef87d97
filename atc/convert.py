"""ONNX file -> compiled model for one batch size, by atc, by its twin, or by aoe, which tunes it on the device.

    python -m atc.convert --model build/hrnet_w18/model.onnx \\
        --output build/hrnet_w18/om/bs16-float32-fp32.onnx --batch 16 --backend onnxruntime

Reads --model, writes --output and the record beside it (`<output>.json`, formats.CompiledModel, last), and holds
`<output>_lock` until the tool has gone. It spells the command of the model zoo's README (seed 002), checks it with
`atc.rules`, prints it and runs it; the input's name and its C, H, W come from the model. With --backend ascend the
command is `atc` and --output ends in `.om`; with onnxruntime it is `python -m atc.embedded` and `.onnx`. Either runs in
a folder of its own, since atc litters the one it stands in, and its result is looked for there, since atc may call it
NAME_linux_x86_64.om. --precision fp16 or fp32 asks for it; default says nothing, which is float16 inside for atc, and
float32 for its twin. With --input uint8 the model takes pixels: an AIPP file that holds the INPUT.MEAN and STD of --cfg
is written beside --output first (`<output without its ending>.aipp.cfg`) and stays there, for the printed command to be
pasted. --tune aoe has aoe in the place of atc, twice: it tunes the subgraphs, then their operators, each by trial on
the device of this machine.

The tool's log is on the screen while it runs. Exit 1 where the tool refuses the model or leaves no file, with what to
do about its error code where atc.tool knows; 2 for a user's fault.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import onnx

from atc import aipp, graph, rules
from atc.shapes import DYNAMIC, AtcError
from atc.tool import AOE, ENDINGS, TOOLS, find_result, run_tool
from hrnet.cli import UserError, command
from hrnet.config import load_config
from hrnet.files import FILE_MODE, AnyPath, check_free_disk, locked, make_folder, sha256_file, write_text
from hrnet.formats import INPUT_LAYOUTS, CompiledModel, TensorInfo, input_shape

CONF_ENDING = ".aipp.cfg"
PRECISIONS = {"default": [], "fp16": ["--precision_mode=force_fp16"], "fp32": ["--precision_mode=force_fp32"]}
AOE_JOBS = (["--job_type=1"], ["--job_type=2"])  # subgraphs, then operators: the order that CANN's documents advise


def batched(tensors: Sequence[TensorInfo], batch: int, where: Path) -> dict[str, list[int]]:
    """{input: shape} with axis 0 set to `batch`. Raises UserError where that axis is fixed, or another is free."""
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
        if DYNAMIC in rest:
            raise UserError(
                f"{tensor.name} has free axes besides the batch",
                where=where,
                expected="[-1, C, H, W]",
                found=tensor.shape,
            )
        shapes[tensor.name] = [batch, *rest]
    return shapes


def aipp_file(cfg: Path, shapes: dict[str, list[int]], batch: int, where: Path) -> tuple[str, list[int]]:
    """The AIPP file of a config, and the shape that it gives the model's one input. Raises UserError where the model
    does not take the config's images."""
    config = load_config(cfg)
    width, height = config.MODEL.IMAGE_SIZE
    planes = [batch, *input_shape("float32", width, height)]
    if list(shapes.values()) != [planes]:
        mend = "give the config that it was exported by"
        raise UserError("the input is not that of the config", where=where, expected=planes, found=shapes, mend=mend)
    text = aipp.spell(width, height, config.INPUT.MEAN, config.INPUT.STD)
    return text, [batch, *input_shape("uint8", width, height)]


def spell(
    model: AnyPath, output: AnyPath, shapes: dict[str, list[int]], conf: Optional[AnyPath], options: Sequence[str]
) -> list[str]:
    """The arguments of the seed's command, in its order, then `conf` (the AIPP file) and `options`. `output` is without
    its ending."""
    layout = "NCHW" if all(len(shape) == 4 for shape in shapes.values()) else "ND"
    shape = ";".join(f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items())
    return [
        f"--framework={rules.ONNX}",
        f"--model={model}",
        f"--input_format={layout}",
        f"--input_shape={shape}",
        f"--output={output}",
        *([f"--insert_op_conf={conf}"] if conf else []),
        *options,
    ]


def output_shapes(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> list[TensorInfo]:
    """The outputs at these input shapes, by ONNX's shape inference; -1 where it cannot tell. Changes `model`."""
    graph.fix_inputs(model, shapes)
    return graph.outputs(onnx.shape_inference.infer_shapes(model, data_prop=True))


@contextlib.contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A folder beside `output` for the tool to stand in, removed at the end; a killed run's is removed at the start."""
    folder = output.with_name(f".atc-{output.name}")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(0o700)
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder)


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of itself, and its opset."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return {**{entry.key: entry.value for entry in model.metadata_props}, "opset": str(opset)}


def chip(soc_version: str) -> str:
    """The chip's name as atc takes it; npu-smi prints it without `Ascend`, and so it is often passed."""
    if f"Ascend{soc_version}" not in rules.SOC_VERSIONS:
        return soc_version
    print(f"--soc_version={soc_version} is taken as Ascend{soc_version}", flush=True)
    return f"Ascend{soc_version}"


def check_tune(tune: str, backend: str, precision: str) -> None:
    """aoe works on the device of this machine, and is told neither a chip nor a precision."""
    if tune == "none":
        return
    if backend != "ascend":
        raise UserError("aoe tunes on the device", expected="--backend ascend", found=backend, mend="TUNE=none")
    if precision != "default":
        mend = "PRECISION=default, or TUNE=none"
        raise UserError("aoe is given no precision", expected="--precision default", found=precision, mend=mend)


def run(
    model: Path,
    output: Path,
    batch: int,
    soc_version: str,
    precision: str,
    cfg: Optional[Path],
    backend: str,
    tune: str,
    log: str,
) -> Path:
    """Compile `model` to `output` and write its record; returns `output`. With `cfg` the model takes uint8 pixels,
    which it normalises as that config says."""
    check_tune(tune, backend, precision)
    started = time.monotonic()
    ending, soc_version = ENDINGS[backend], chip(soc_version)
    if output.suffix != ending:
        raise UserError("wrong ending", where=output, expected=f"{ending} for {backend}", found=repr(output.suffix))
    if not model.is_file():
        raise UserError("no such model", where=model, mend="run make onnx")
    make_folder(output.parent)
    check_free_disk(output.parent, 2 * model.stat().st_size)  # the compiled file and what the tool writes on the way
    try:
        source = graph.read(model)
        description, inputs = graph.describe(source), graph.inputs(source)
        shapes = batched(inputs, batch, model)
        entering = [TensorInfo(tensor.name, tensor.dtype, shapes[tensor.name]) for tensor in inputs]
        conf, text = None, ""
        if cfg:
            conf = output.with_suffix(CONF_ENDING)
            text, pixels = aipp_file(cfg, shapes, batch, model)
            entering = [TensorInfo(inputs[0].name, "uint8", pixels)]
        options = [f"--soc_version={soc_version}", f"--log={log}", *PRECISIONS[precision]]
        called, jobs = (AOE, AOE_JOBS) if tune == "aoe" else (TOOLS[backend], [options])
        with locked(f"{output}_lock") as lock, scratch_folder(output) as folder:
            seen, seen_conf = os.path.relpath(model.resolve(), folder), conf and Path("..", conf.name)  # by the tool
            rules.check(rules.parse(spell(seen, output.stem, shapes, seen_conf, options)), description)
            if conf:
                write_text(conf, text)
            metadata = metadata_of(source)
            outputs = output_shapes(source, shapes)
            del source  # the tool needs the memory
            for job in jobs:
                shown = [*called, *spell(model, output.with_suffix(""), shapes, conf, job)]
                print(shlex.join(shown), flush=True)
                for earlier in folder.glob(f"{output.stem}*{ending}"):
                    earlier.unlink()
                run_tool(called, spell(seen, output.stem, shapes, seen_conf, job), folder, lock)
            result = find_result(folder, output.stem, ending)
            result.chmod(FILE_MODE)
            record = CompiledModel(
                model_sha256=sha256_file(result),
                source_sha256=sha256_file(model),
                command=shown,
                tool=called[-1],
                inputs=entering,
                outputs=outputs,
                metadata=metadata,
            )
            record.write(output)  # before the model, whose presence means that both are there
            os.replace(result, output)
    except AtcError as fault:
        raise UserError(f"atc would refuse this: {fault}", where=model) from None
    size, seconds = output.stat().st_size / 1e6, time.monotonic() - started
    print(f"wrote {output} (batch {batch}, {size:.1f} MB, {seconds:.1f} s)")
    return output


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atc.convert", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--output", type=Path, required=True, help="the compiled file, with its ending")
    parser.add_argument("--batch", type=int, default=16, help="the static batch size")
    parser.add_argument("--soc_version", default="Ascend310P3", help="Ascend and the chip's name of npu-smi info")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="default", help="inside the compiled model")
    parser.add_argument("--input", choices=INPUT_LAYOUTS, default="float32", help="uint8: pixels, normalised inside")
    parser.add_argument("--cfg", type=Path, help="the model's YAML, whose mean and std --input uint8 takes")
    parser.add_argument("--backend", choices=sorted(ENDINGS), default="onnxruntime", help="ascend: atc; else its twin")
    parser.add_argument("--tune", choices=("none", "aoe"), default="none", help="aoe: by trial on the device")
    parser.add_argument("--log", default="error", help="atc's log level: debug, info, warning, error, null")
    args = parser.parse_args(argv)
    if args.batch < 1:
        parser.error(f"--batch {args.batch}: expected at least 1")
    if (args.input == "uint8") != (args.cfg is not None):
        parser.error("--input uint8 takes --cfg, float32 does not")
    del args.input  # --cfg says it
    return args


@command
def main(argv: Optional[list[str]] = None) -> int:
    run(**vars(parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
