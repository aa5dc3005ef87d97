"""ONNX file -> compiled model for one batch size or for a config's gears, by atc, by its twin, or by aoe on the device.

    python -m atc.convert --model build/hrnet_w18/model.onnx \\
        --output build/hrnet_w18/om/bs16-float32-fp32.onnx --batch 16 --backend onnxruntime
    python -m atc.convert --model build/higher_hrnet_w32_512/model.onnx --cfg configs/higher_hrnet_w32_512.yaml \\
        --output build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx --batch 1 --backend onnxruntime

Reads --model, writes --output and the record beside it (`<output>.json`, hrnet.io.compiled, last), and holds
`<output>_lock` until the tool has gone. It spells the command (atc.command), checks it with `atc.atc_rules`, prints it and
runs it. With --backend ascend the command is `atc` and --output ends in `.om`; with onnxruntime it is
`python -m atc.emulator` and `.onnx`. Either runs in a folder of its own, since atc litters the one it stands in, and
its result is looked for there, since atc may call it NAME_linux_x86_64.om.

--precision fp16 or fp32 asks for it; default says nothing, which is float16 inside for atc, and float32 for its twin.
With a --cfg that has INPUT.GEARS height and width stay free and take those values (--dynamic_dims), and the outputs are
asked for by name. With --input uint8 the model takes pixels and normalises them by the INPUT.MEAN and STD of --cfg: by
an AIPP file (`<output without its ending>.aipp.cfg`), or with gears by an ONNX file of its own (`….pixels.onnx`);
either is written beside --output first and stays there, for the printed command to be pasted. --tune aoe has aoe in the
place of atc, twice: it tunes the subgraphs, then their operators, each by trial on the device of this machine.

The tool's log is on the screen while it runs. Exit 1 where the tool refuses the model or leaves no file, with what to
do about its error code where atc.run_atc knows; 2 for a user's fault.
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
from yacs.config import CfgNode

from atc import atc_rules, graph, pixels
from atc import command as seed
from atc.command import PRECISIONS, build_command
from atc.run_atc import AOE, ENDINGS, TOOLS, find_result, run_tool
from atc.shapes import AtcError, at_gear
from hrnet.cli import UserError, command
from hrnet.config import load_config
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import FILE_MODE, check_free_disk, locked, make_folder, replacing, sha256_file, write_text
from hrnet.io.tensors import INPUT_LAYOUTS

CONF_ENDING = ".aipp.cfg"
PIXELS_ENDING = ".pixels.onnx"
AOE_JOBS = (["--job_type=1"], ["--job_type=2"])  # subgraphs, then operators: the order that CANN's documents advise


def write_pixels(source: onnx.ModelProto, config: CfgNode, model: Path, output: Path) -> Path:
    """Let `source`, read from `model`, take pixels, and write it beside `output`; returns the file."""
    try:
        pixels.take_pixels(source, config.INPUT.MEAN, config.INPUT.STD)
    except ValueError as error:
        raise UserError(f"--input uint8: {error}", where=model) from None
    path = output.with_suffix(PIXELS_ENDING)
    with replacing(path) as temporary:
        onnx.save(source, temporary)
    return path


def at_gears(
    source: onnx.ModelProto, shapes: dict[str, list[int]], gears: Sequence[Sequence[int]], where: Path
) -> list[Gear]:
    """What goes in and comes out at each gear. Raises UserError where the model does not fit one."""
    found = []
    for gear in gears:
        fixed = at_gear(shapes, gear)
        try:
            outputs = graph.output_shapes(source, fixed, strict=True)
        except ValueError as error:
            raise UserError(f"does not fit the gear {list(gear)}: {error}", where=where) from None
        found.append(Gear(next(iter(fixed.values())), [output.shape for output in outputs]))
    return found


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


def check_tune(tune: str, backend: str, precision: str) -> None:
    """aoe works on the device of this machine, and is told neither a chip nor a precision."""
    if tune == "none":
        return
    if backend != "ascend":
        raise UserError("aoe tunes on the device", expected="--backend ascend", found=backend, hint="TUNE=none")
    if precision != "default":
        hint = "PRECISION=default, or TUNE=none"
        raise UserError("aoe is given no precision", expected="--precision default", found=precision, hint=hint)


def run(
    model: Path,
    output: Path,
    batch: int,
    cfg: Optional[Path],
    dtype: str,
    soc_version: str,
    precision: str,
    backend: str,
    tune: str,
    log: str,
) -> Path:
    """Compile `model` to `output` and write its record; returns `output`. `cfg`: where its gears stand, and how it
    normalises pixels, for `dtype` uint8."""
    check_tune(tune, backend, precision)
    started = time.monotonic()
    ending, soc_version = ENDINGS[backend], seed.chip(soc_version)
    if output.suffix != ending:
        raise UserError("wrong ending", where=output, expected=f"{ending} for {backend}", found=repr(output.suffix))
    if not model.is_file():
        raise UserError("no such model", where=model, hint="run make onnx")
    config = load_config(cfg) if cfg else None
    gears = seed.read_gears(config, batch) if config else []
    make_folder(output.parent)
    check_free_disk(output.parent, 2 * model.stat().st_size)  # the compiled file and what the tool writes on the way
    try:
        source, given = graph.read(model), model
        with locked(f"{output}_lock") as lock, scratch_folder(output) as folder:
            if config and dtype == "uint8" and gears:
                given = write_pixels(source, config, model, output)
            description, inputs = graph.describe(source), graph.inputs(source)
            shapes = seed.batched(inputs, batch, 2 if gears else 0, model)
            entering = [TensorInfo(tensor.name, tensor.dtype, shapes[tensor.name]) for tensor in inputs]
            conf, text = None, ""
            if config and dtype == "uint8" and not gears:
                conf = output.with_suffix(CONF_ENDING)
                text, taken = seed.aipp_file(config, shapes, batch, model)
                entering = [TensorInfo(inputs[0].name, "uint8", taken)]
            flags = seed.gear_flags(gears, description.outputs)
            options = [*flags, f"--soc_version={soc_version}", f"--log={log}", *PRECISIONS[precision]]
            jobs = [[*flags, *job] for job in AOE_JOBS] if tune == "aoe" else [options]
            called = AOE if tune == "aoe" else TOOLS[backend]
            seen, seen_conf = os.path.relpath(given.resolve(), folder), conf and Path("..", conf.name)  # by the tool
            atc_rules.check(atc_rules.parse(build_command(seen, output.stem, shapes, seen_conf, options)), description)
            if conf:
                write_text(conf, text)
            metadata = graph.metadata_of(source)
            outputs, told = graph.output_shapes(source, shapes), at_gears(source, shapes, gears, model)
            del source  # the tool needs the memory
            for job in jobs:
                shown = [*called, *build_command(given, output.with_suffix(""), shapes, conf, job)]
                print(shlex.join(shown), flush=True)
                for earlier in folder.glob(f"{output.stem}*{ending}"):
                    earlier.unlink()
                run_tool(called, build_command(seen, output.stem, shapes, seen_conf, job), folder, lock)
            result = find_result(folder, output.stem, ending)
            result.chmod(FILE_MODE)
            record = CompiledModel(
                model_sha256=sha256_file(result),
                source_sha256=sha256_file(model),
                command=shown,
                tool=called[-1],
                inputs=entering,
                outputs=outputs,
                gears=told,
                metadata=metadata,
            )
            record.write(output)  # before the model, whose presence means that both are there
            os.replace(result, output)
    except AtcError as error:
        raise UserError(f"atc would refuse this: {error}", where=model) from None
    size, seconds = output.stat().st_size / 1e6, time.monotonic() - started
    what = f"{len(gears)} gears" if gears else f"batch {batch}"
    print(f"wrote {output} ({what}, {size:.1f} MB, {seconds:.1f} s)")
    return output


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atc.convert", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--output", type=Path, required=True, help="the compiled file, with its ending")
    parser.add_argument("--batch", type=int, default=16, help="the static batch size")
    parser.add_argument("--cfg", type=Path, help="the model's YAML: its gears, and the mean and std of --input uint8")
    parser.add_argument(
        "--input", dest="dtype", choices=INPUT_LAYOUTS, default="float32", help="uint8: pixels, normalised inside"
    )
    parser.add_argument("--soc_version", default="Ascend310P3", help="Ascend and the chip's name of npu-smi info")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="default", help="inside the compiled model")
    parser.add_argument("--backend", choices=sorted(ENDINGS), default="onnxruntime", help="ascend: atc; else its twin")
    parser.add_argument("--tune", choices=("none", "aoe"), default="none", help="aoe: by trial on the device")
    parser.add_argument("--log", default="error", help="atc's log level: debug, info, warning, error, null")
    args = parser.parse_args(argv)
    if args.batch < 1:
        parser.error(f"--batch {args.batch}: expected at least 1")
    if args.dtype == "uint8" and args.cfg is None:
        parser.error("--input uint8 takes its mean and std from --cfg")
    return args


@command
def main(argv: Optional[list[str]] = None) -> int:
    run(**vars(parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
