"""Quantize an ONNX file with calibration inputs to an int8 model for atc, with amct_onnx or its emulator.

    python -m amct.quantize --model build/hrnet_w18/model.onnx --inputs build/hrnet_w18/int8/inputs \\
        --output build/hrnet_w18/int8/emulator/model_deploy_model.onnx --backend onnxruntime

Reads    --model (opset 8 to 14), and --inputs: float32 inputs with their manifest, written by preprocess --calibration
Writes   batches/batch_<n>.bin beside the output, the same inputs joined into whole batches (.npy of one image each if
         height and width are dynamic, which only the emulator supports); PREFIX_fake_quant_model.onnx; --output (its
         name is PREFIX_deploy_model.onnx); the record of --output, `<output>.json` (hrnet/io/quantized.py); and a stamp
Locks    `<output>_lock` until the tool has ended

The script builds one command, prints it, runs it in a temporary directory and checks what it wrote. With --backend
ascend the command is `amct_onnx calibration`; AMCT needs a separate Python environment, whose `bin` directory must be
on PATH. Otherwise the command is `python -m amct.emulator calibration`. The inputs are float32 even if the model will
read uint8 pixels: the normalisation of pixels is added afterwards, by atc.convert.

amct_onnx quantizes only layers: convolutions, matrix products and average pooling (amct_rules.LAYERS). The layers that
the --keep_float file names stay in float: they are skip_layers in calibration.cfg beside the output. --method selects
how the emulator finds the range of each tensor; without it the emulator chooses. amct_onnx does not have this option.

Exit code 1 if the tool fails or writes no usable model; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import onnx

from amct import amct_rules
from amct.batches import batch_size, find_inputs, whole_batches, write_batches
from hrnet import cann_tool
from hrnet.cli import UserError, WorkFailed, command, plural
from hrnet.io.compiled import check_export
from hrnet.io.files import FILE_MODE, check_free_disk, locked, make_folder, sha256_file, write_text
from hrnet.io.quantized import QuantizedModel
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.keep_float import KEPT, read_list

EMULATOR = ["python", "-m", "amct.emulator"]
TOOLS = {"ascend": ["amct_onnx"], "onnxruntime": EMULATOR, "openvino": EMULATOR}
REPORT = ("method", "error_percentile", "error_entropy", "error_minmax")  # of the emulator, in the file's metadata


@contextlib.contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A temporary directory beside `output`, where the tool runs. The directory of a killed run is removed first."""
    folder = output.with_name(f".amct-{output.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(0o700)
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder)


def read_shape(value: onnx.ValueInfoProto, model: Path, backend: str) -> list[Optional[int]]:
    """The shape [N, C, H, W] of the model's input; None where it is dynamic. Raises UserError for a dynamic C, and if
    only one of H and W is dynamic; with --backend ascend also if both are."""
    shape = amct_rules.dims(value)
    gears = shape[2:] == [None, None] and shape[1] is not None
    if len(shape) != 4 or (None in shape[1:] and not gears):
        expected = "[N, C, H, W] with fixed C, H and W" + ("" if backend == "ascend" else ", or both H and W dynamic")
        raise UserError("cannot be quantized", where=model, expected=expected, found=shape)
    if gears and backend == "ascend":
        hint = "use PRECISION=fp16, or BACKEND=onnxruntime to estimate the loss of accuracy"
        raise UserError("amct_onnx does not support dynamic height and width (gears)", where=model, hint=hint)
    return shape


def check_result(path: Path, source: onnx.ModelProto, tool: str, quantized: bool) -> onnx.ModelProto:
    """The deploy model that the tool wrote. Raises WorkFailed if it is missing or not an ONNX file, if its inputs or
    outputs differ from those of `source`, or, with `quantized`, if no operator is quantized."""
    if not path.is_file():
        raise WorkFailed(f"{tool} succeeded but wrote no {path.name}")
    try:
        model = amct_rules.read_model(path)
    except UserError as error:
        raise WorkFailed(f"{tool} wrote an unusable model", found=error.what) from None
    stored = {tensor.name for graph in (source.graph, model.graph) for tensor in graph.initializer}
    for values, expected in ((model.graph.input, source.graph.input), (model.graph.output, source.graph.output)):
        names, wanted = ([value.name for value in each if value.name not in stored] for each in (values, expected))
        if names != wanted:
            raise WorkFailed(f"{tool} changed the model's inputs or outputs", expected=wanted, found=names)
    if quantized and not any(node.op_type in amct_rules.QUANTIZING for node in model.graph.node):
        raise WorkFailed(f"{tool} quantized no operator", where=path.name)
    return model


def read_skipped(path: Optional[Path], source: onnx.ModelProto) -> list[str]:
    """The layers among the operators listed in a file; none without a file. Raises UserError for an unknown name."""
    names = set(read_list(path, source.graph)) if path else set()
    return [node.name for node in source.graph.node if node.name in names and node.op_type in amct_rules.LAYERS]


def stamp_of(model: Path, tool: Sequence[str], inputs: Sequence[Path], settings: dict[str, Any]) -> Stamp:
    """What the int8 model is made from."""
    digest = hashlib.sha256("".join(map(sha256_file, inputs)).encode())
    program = cann_tool.find_program(tool[-1])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnx", "onnxruntime")]
    version = versions if tool == EMULATOR else program and os.path.realpath(program)
    modules = ["amct.quantize", *(["amct.emulator.__main__"] if tool == EMULATOR else [])]
    data = {entry.name: entry for entry in sorted(model.parent.glob(f"{model.name}*data"))}
    made_from = {**settings, "model": model.name, "tool": [tool[-1], version], "inputs_sha256": digest.hexdigest()}
    return Stamp.compute(modules, made_from, {"model": model, **data})


def run(
    model: Path, inputs: Path, output: Path, backend: str, keep_float: Optional[Path] = None, method: str = ""
) -> None:
    """Quantize `model` with the `inputs` and write `output` and its record. `keep_float`: list of operators that stay
    in float; `method`: for the emulator; empty: the method with the smallest error."""
    started, tool = time.monotonic(), TOOLS[backend]
    if not output.name.endswith(amct_rules.DEPLOY):
        raise UserError("wrong file name", where=output, expected=f"PREFIX{amct_rules.DEPLOY}")
    source = amct_rules.read_model(model, weights=False)
    check_export(model)
    amct_rules.check_model(source, model)
    value = amct_rules.one_input(source, model)
    fixed, *sizes = read_shape(value, model, backend)
    files = find_inputs(inputs, sizes)
    batch = 1 if None in sizes else batch_size(fixed, len(files), inputs)
    used = whole_batches(len(files), batch)
    sources, paths = list(files)[:used], list(files.values())[:used]
    if method and tool != EMULATOR:
        raise UserError("amct_onnx chooses the ranges itself", found=f"--method {method}", hint="use PRECISION=int8")
    skipped = read_skipped(keep_float, source)
    settings = {"batch": batch, "images": sources, "skipped": skipped, "method": method}
    stamp = stamp_of(model, tool, paths, settings)
    config = output.with_name("calibration.cfg") if skipped else None
    prefix = Path(str(output)[: -len(amct_rules.DEPLOY)])
    fake_quant, records = Path(f"{prefix}{amct_rules.FAKE_QUANT}"), [QuantizedModel.record_path(output), output]
    if is_current(output, stamp, records):
        return touch(output, records)
    make_folder(output.parent)
    check_free_disk(output.parent, 3 * model.stat().st_size + sum(path.stat().st_size for path in paths))
    with locked(f"{output}_lock") as lock, scratch_folder(output) as folder:
        data = output.parent / "batches"
        count = write_batches(data, paths, batch)
        shape = [batch, *(-1 if size is None else size for size in sizes)]
        own = ["--method", method] if method else []
        if config:
            write_text(config, amct_rules.render_config(skipped))
        shown = [*tool, *amct_rules.build_command(model, prefix, value.name, shape, data, count, config), *own]
        print(shlex.join(shown), flush=True)
        source_path, save_path = model.parent.resolve() / model.name, folder / prefix.name
        absolute = config and config.resolve()
        arguments = amct_rules.build_command(source_path, save_path, value.name, shape, data.resolve(), count, absolute)
        arguments += own
        code, _ = cann_tool.run(tool, arguments, folder, lock, "BACKEND=onnxruntime")
        if code:
            raise WorkFailed(f"{tool[-1]} failed, see above", found=f"exit code {code}")
        deploy, fake = folder / output.name, folder / fake_quant.name
        written = check_result(deploy, source, tool[-1], quantized=not skipped)
        if not fake.is_file():
            raise WorkFailed(f"{tool[-1]} succeeded but wrote no {fake.name}")
        props = {entry.key: entry.value for entry in written.metadata_props}
        calibration = {f"int8.{name}": props[f"amct.{name}"] for name in REPORT if f"amct.{name}" in props}
        calibration |= {KEPT: str(len(skipped))} if keep_float else {}
        for path in (fake, deploy):
            path.chmod(FILE_MODE)
        QuantizedModel(
            model_sha256=sha256_file(deploy),
            fake_quant_sha256=sha256_file(fake),
            source_sha256=stamp.files["model"],
            command=shown,
            tool=tool[-1],
            batch=batch,
            images=sources,
            calibration=calibration,
        ).write(output)  # before the model: if the model exists, both are complete
        os.replace(fake, fake_quant)
        os.replace(deploy, output)
        write_stamp(output, stamp, records)
    megabytes, seconds = output.stat().st_size / 1e6, time.monotonic() - started
    return print(f"wrote {output} (int8, {plural(used, 'calibration image')}, {megabytes:.1f} MB, {seconds:.1f} s)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m amct.quantize", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="float32 ONNX file")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of calibration inputs with its manifest")
    parser.add_argument("--output", type=Path, required=True, help=f"int8 model to write: PREFIX{amct_rules.DEPLOY}")
    text = "ascend: amct_onnx; others: its emulator (default: %(default)s)"
    parser.add_argument("--backend", choices=sorted(TOOLS), default="onnxruntime", help=text)
    parser.add_argument("--keep_float", type=Path, metavar="FILE", help="list of operators that stay in float")
    text = "for the emulator only: how to find the range of each tensor (default: the method with the smallest error)"
    parser.add_argument("--method", choices=amct_rules.METHODS, default="", help=text)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
