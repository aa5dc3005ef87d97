"""ONNX file -> compiled model for one batch size or for the gears of a config; runs atc, the emulator of atc, or aoe.

    python -m atc.convert --cfg hrnet_w18 --model build/hrnet_w18/model.onnx \\
        --output build/hrnet_w18/om/bs16-float32-fp32.onnx --batch_size 16 --backend onnxruntime

Reads    --model; the int8 model --quantized and its record, if given; --cfg: INPUT.GEARS and, for uint8, INPUT.MEAN
         and STD. A file that was exported with another config, or a classifier with another image size or number of
         classes, is rejected
Writes   --output, its record `<output>.json` (hrnet.io.compiled) and a stamp; for uint8 also a file for the tool:
         `<output without suffix>.aipp.cfg`, or `….pixels.onnx` with gears or for a chip without AIPP
Locks    `<output>_lock` until the tool has ended

The script builds the command (atc.plan), checks it (atc.atc_rules), prints it and runs it. With --backend ascend the
command is `atc` and --output ends with `.om`; with onnxruntime or openvino it is `python -m atc.emulator` and `.onnx`.
The tool runs in a temporary directory, since atc writes extra files to the current directory.

--precision default passes no precision to the tool; then atc computes in float16 and the emulator in float32. With
gears, height and width are dynamic (--dynamic_dims), and outputs are selected by name. With --input_dtype uint8 the
model accepts pixels and normalises them by AIPP. With gears, which AIPP does not support, or for a chip without AIPP,
operators in the ONNX file normalise them.
With --precision int8 the tool compiles --quantized, the int8 model that amct.quantize made from --model, instead of
--model; in this case only the emulator supports gears.
--tune aoe runs aoe instead of atc, once to tune subgraphs and once to tune operators, by measurements on this machine's
device. --atc_flags are passed to atc (atc/flags.py).
--keep_float is a file with a list of operators, which stay in float32. It is passed to the tool as --keep_dtype.

Exit code 1 if the tool rejects the model or writes no file, with a hint for the tool's error code (atc.run_atc); 2 for
wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import onnx
from yacs.config import CfgNode

from atc import atc_command, atc_rules, flags, graph
from atc.plan import prepare, restore_tool_input, uses_aipp, write_aipp
from atc.run_atc import AOE, EMULATOR, TOOLS, find_hint, find_result, run_tool
from atc.shapes import AtcError
from hrnet import cann
from hrnet.cann_tool import find_program
from hrnet.cli import UserError, command, integer, plural
from hrnet.config import config_path, load_config
from hrnet.io.compiled import CompiledModel, check_export
from hrnet.io.files import FILE_MODE, check_free_disk, locked, make_folder, sha256_file
from hrnet.io.quantized import QuantizedModel
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.io.tensor_names import INPUT_LAYOUTS
from hrnet.keep_float import KEPT, PRECISION, read_list

AOE_JOBS = (["--job_type=1"], ["--job_type=2"])  # subgraphs, then operators, as recommended in CANN's documentation
LEGAL_PATH = r"[A-Za-z0-9_./\-\u4e00-\u9fa5]+"  # absolute paths of files that atc can read


@contextlib.contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A temporary directory beside `output`, where the tool runs. The directory of a killed run is removed first."""
    folder = output.with_name(f".atc-{output.name}")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(0o700)
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder)


def check_arguments(
    model: Path, output: Path, backend: str, precision: str, tune: str, chip: str, atc_flags: Sequence[str]
) -> None:
    """Raise UserError for arguments that exclude each other, and for a missing or unsuitable model."""
    if tune != "none" and backend != "ascend":
        raise UserError("aoe needs an NPU", expected="--backend ascend", found=backend, hint="use TUNE=none")
    if tune != "none" and precision != "default":
        hint = "use PRECISION=default, or TUNE=none"
        raise UserError("aoe sets the precision itself", expected="--precision default", found=precision, hint=hint)
    if tune != "none" and not cann.tunes_models(chip):
        raise UserError("aoe cannot tune models for A2 and A3 chips", found=chip, hint="use TUNE=none")
    if tune != "none" and atc_flags:
        hint = "use TUNE=none, or ATC_FLAGS="
        raise UserError("aoe does not accept flags of atc", found=" ".join(atc_flags), hint=hint)
    flags.check_precision(atc_flags, precision)
    suffix = ".om" if backend == "ascend" else ".onnx"
    if output.suffix != suffix:
        raise UserError("wrong file name suffix", where=output, expected=suffix, found=repr(output.suffix))
    if not model.is_file():
        raise UserError("no such model", where=model, hint="run make onnx")
    for path in (model, output.parent) if backend == "ascend" else ():
        found = os.path.realpath(path)
        if not re.fullmatch(LEGAL_PATH, found):
            hint = "copy it, or the whole checkout, to another directory, or give another BUILD="
            raise UserError(
                "atc rejects this absolute path", where=found, expected="letters, digits and _-./", hint=hint
            )
    check_export(model)


def read_quantized(model: Path, quantized: Optional[Path], precision: str, gears: bool) -> dict[str, str]:
    """The metadata that an int8 model adds; {} for other precisions. `gears`: whether atc is to compile for gears.
    Raises UserError for an int8 model with gears, and if --quantized and --precision contradict each other; FormatError
    if the int8 model was not made from `model`."""
    if (precision == "int8") != (quantized is not None):
        raise UserError("give both --precision int8 and --quantized", found=f"--precision {precision}")
    if quantized is None:
        return {}
    if gears:
        raise UserError("atc does not support gears for an int8 model", where=quantized, hint="use PRECISION=fp16")
    return QuantizedModel.read(quantized, model).metadata()


def read_kept(path: Optional[Path], model: Path) -> list[str]:
    """The names of the nodes in the --keep_float list `path`; [] without a list. Raises UserError for an unreadable
    model or list."""
    if path is None or not model.is_file():  # check_arguments rejects a missing model
        return []
    try:
        source = onnx.load(model, load_external_data=False)
    except Exception:  # protobuf's
        raise UserError("not an ONNX file that can be read", where=model) from None
    return read_list(path, source.graph)


def stamp_of(
    model: Path, config: Optional[CfgNode], tool: Sequence[str], arguments: dict[str, Any], files: dict[str, Path]
) -> Stamp:
    """The stamp of a compilation, with only the config values that are used. `files`: the int8 model, and the files
    named in atc's flags. The version of atc is unknown, so the stamp includes the path of atc instead, with symbolic
    links such as `ascend-toolkit/latest` resolved."""
    path = find_program(tool[-1])
    compiler = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    version = compiler if tool == EMULATOR else path and os.path.realpath(path)
    settings = {**arguments, "model": model.name, "tool": f"{tool[-1]} ({version})"}
    if config and arguments["input_dtype"] == "uint8":
        settings |= {"mean": list(config.INPUT.MEAN), "std": list(config.INPUT.STD)}
    if config and "IMAGE_SIZE" in config.MODEL:
        settings |= {"image_size": list(config.MODEL.IMAGE_SIZE), "classes": config.MODEL.NUM_CLASSES}
    files |= {f"external data {number}": path for number, path in enumerate(graph.external_data(model), 1)}
    modules = ["atc.convert", *(["atc.emulator.__main__"] if tool == EMULATOR else [])]
    return Stamp.compute(modules, settings, {"model": model, **files})


def run(
    cfg: Optional[Path],
    model: Path,
    output: Path,
    batch_size: int,
    input_dtype: str,
    soc_version: str,
    precision: str,
    backend: str,
    tune: str,
    log: str,
    atc_flags: list[str],
    quantized: Optional[Path] = None,
    keep_float: Optional[Path] = None,
) -> None:
    """Compile `model`, or the int8 model `quantized` made from it, to `output`, and write its record. `cfg` is needed
    for gears and for uint8. `keep_float`: list of operators that stay in float32."""
    chip = atc_command.chip(soc_version)
    kept = read_kept(keep_float, model)
    atc_flags = [*atc_flags, *([f"--keep_dtype={keep_float}"] if kept else [])]
    check_arguments(model, output, backend, precision, tune, chip, atc_flags)
    started, config = time.monotonic(), load_config(cfg) if cfg else None
    gears = atc_command.config_gears(config, batch_size) if config else []
    int8 = read_quantized(model, quantized, precision, bool(gears) and backend == "ascend")
    more = int8 | ({KEPT: str(len(kept))} if keep_float else {})
    default = flags.precision_mode(atc_flags) or ("fp16" if backend == "ascend" else "fp32")
    more[PRECISION] = default if precision == "default" else precision
    options = [f"--soc_version={chip}", f"--log={log}", *atc_command.PRECISIONS[precision], *atc_flags]
    tool, jobs = (AOE, AOE_JOBS) if tune == "aoe" else (TOOLS[backend], (options,))
    arguments = {"batch_size": batch_size, "input_dtype": input_dtype, "gears": gears, "tune": tune, "options": options}
    files = {**flags.files(atc_flags), **({"quantized": quantized} if quantized else {})}
    stamp = stamp_of(model, config, tool, {**arguments, **more}, files)
    records = [CompiledModel.record_path(output), output]
    if is_current(output, stamp, records):
        if config and input_dtype == "uint8":
            restore_tool_input(config, quantized or model, output, uses_aipp(gears, chip))
        return touch(output, records)
    make_folder(output.parent)
    check_free_disk(output.parent, 2 * model.stat().st_size)  # the compiled file and the tool's temporary files
    try:
        source = graph.read(model)
        with locked(f"{output}_lock") as lock, scratch_folder(output) as folder:
            plan, description = prepare(
                source, model, output, config, batch_size, input_dtype, gears, chip, atc_flags, quantized
            )
            plan = plan._replace(metadata={**plan.metadata, **more})
            del source  # the tool needs the memory
            relative = plan.relative_to(folder)
            # The real atc checks the flags in --atc_flags itself.
            checked = options if tool == EMULATOR else options[: len(options) - len(atc_flags)]
            atc_rules.check(atc_rules.parse(relative.arguments(output.stem, checked)), description)
            if plan.conf and config:
                write_aipp(config, Path(plan.conf))
            for job in jobs:
                shown = [*tool, *plan.arguments(output.with_suffix(""), job)]
                print(shlex.join(shown), flush=True)
                for earlier in folder.glob(f"{output.stem}*{output.suffix}"):
                    earlier.unlink()
                run_tool(tool, relative.arguments(output.stem, flags.relative_to(job, folder)), folder, lock)
            result = find_result(tool[-1], folder, output.stem, output.suffix)
            result.chmod(FILE_MODE)
            CompiledModel(
                model_sha256=sha256_file(result),
                source_sha256=stamp.files["model"],
                command=shown,
                tool=tool[-1],
                inputs=plan.inputs,
                outputs=plan.outputs,
                gears=plan.gears,
                metadata=plan.metadata,
            ).write(output)  # before the model: if the model exists, both are complete
            os.replace(result, output)
            write_stamp(output, stamp, records)
    except AtcError as error:
        raise graph.unreadable(model, error, "atc would reject this", find_hint([str(error)])) from None
    size, seconds = output.stat().st_size / 1e6, time.monotonic() - started
    what = plural(len(gears), "gear") if gears else f"batch {batch_size}"
    return print(f"wrote {output} ({what}, {size:.1f} MB, {seconds:.1f} s)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atc.convert", description=__doc__.splitlines()[0])
    text = "config: a name in configs/ or the path of a YAML file; needed for gears and uint8"
    parser.add_argument("--cfg", type=config_path, help=text)
    parser.add_argument("--model", type=Path, required=True, help="ONNX file to read")
    parser.add_argument("--output", type=Path, required=True, help="compiled model to write (.om or .onnx)")
    parser.add_argument("--batch_size", type=integer(1), default=16, help="static batch size (%(default)s)")
    text = "uint8: the model normalises pixels (default: %(default)s)"
    parser.add_argument("--input_dtype", choices=INPUT_LAYOUTS, default="float32", help=text)
    text = "chip: Ascend followed by the name from npu-smi info (%(default)s)"
    parser.add_argument("--soc_version", default="Ascend310P3", help=text)
    text = "of the computations inside the model; default: fp16 by atc, fp32 by its emulator; "
    text += "with fp32, atc's convolutions may still read float16"
    parser.add_argument("--precision", choices=sorted(atc_command.PRECISIONS), default="default", help=text)
    text = "--precision int8: the int8 model, made from --model by amct.quantize"
    parser.add_argument("--quantized", type=Path, metavar="FILE", help=text)
    text = "ascend: atc; others: the emulator of atc (%(default)s)"
    parser.add_argument("--backend", choices=sorted(TOOLS), default="onnxruntime", help=text)
    text = "list of operators that stay in float32, with one ONNX node name or OpType::<type> per line"
    parser.add_argument("--keep_float", type=Path, metavar="FILE", help=text)
    parser.add_argument("--tune", choices=("none", "aoe"), default="none", help="aoe: tune by measuring on the device")
    parser.add_argument("--log", default="error", help="atc's log level: debug, info, warning, error, null")
    text = "more flags for atc, quoted: --atc_flags='--op_select_implmode=high_precision --output_type=FP16'"
    parser.add_argument("--atc_flags", type=flags.parse, default=[], metavar="FLAGS", help=text)
    args = parser.parse_args(argv)
    if args.input_dtype == "uint8" and args.cfg is None:
        parser.error("--input_dtype uint8 needs --cfg, for INPUT.MEAN and STD")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
