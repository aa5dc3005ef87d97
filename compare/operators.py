"""Compare a compiled model with its ONNX file operator by operator, to find where accuracy is lost.

    python -m compare.operators --cfg demo_digits --onnx build/demo_digits/model.onnx \\
        --model build/demo_digits/om/bs16-float32-fp16.onnx --inputs build/demo_digits/prep/digits-float32 \\
        --output build/demo_digits/compare/digits-float32/onnxruntime-bs16-fp16/operators.json

Reads    the ONNX file, the compiled model with its record, a directory of inputs with its manifest
Writes   <output> (kind `operators`): one entry for each operator in the order of the graph; .md with the worst ones

All intermediate results of both graphs are computed for `--images` images, one at a time (compare/walk.py). For each
operator the table has the error after it, and the error that it adds itself: the error of its result if its inputs are
the float32 results of the ONNX file. An .om is compared on its device by msprobe (compare/msprobe.py), which reports
only the error after each operator.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import onnx
from yacs.config import CfgNode

from compare import msprobe
from compare.operator_table import findings, table
from compare.tables import write_tables
from compare.walk import BatchDiffers, Operator, Walk
from hrnet.cli import UserError, WorkFailed, command, integer, plural, progress
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.inputs import planes, read_input, spread
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError, write_record
from hrnet.io.stamp import Stamp, is_current, tensors_state, touch, write_stamp
from hrnet.io.tensors import write_bin
from postprocess.checks import check_manifest

SHOWN = 10  # operators in the table on the screen
LISTED = 40  # operators in the Markdown file
SAME = ("config_sha256", "weights_sha256")  # metadata of the two files that must be equal


class Job(NamedTuple):
    """What is compared."""

    config: CfgNode
    source: onnx.ModelProto
    compiled: CompiledModel
    manifest: Manifest
    images: list[InputImage]
    args: argparse.Namespace

    def batch(self, images: list[InputImage]) -> np.ndarray:
        """The inputs of these images, as preprocess wrote them, with the batch axis."""
        return np.concatenate([read_input(self.args.inputs, image, self.manifest) for image in images])


def read_onnx(path: Path, hint: str) -> onnx.ModelProto:
    """Read an ONNX file. Raises UserError if it is missing, and FormatError if it is damaged or does not have exactly
    one input. `hint`: the command that writes it."""
    if not path.is_file():
        raise UserError("no such model", where=path, hint=hint)
    try:
        model = onnx.load(path)
    except Exception:  # from protobuf or external weights: no common base class
        raise FormatError("not an ONNX file that can be read", where=path, hint=f"rm {path}; {hint}") from None
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1 or not model.graph.node:
        raise FormatError("unsupported ONNX file", where=path, expected="operators and one input", found=inputs)
    return model


def check_same_weights(source: onnx.ModelProto, compiled: CompiledModel, args: argparse.Namespace) -> None:
    """Raise UserError if the two files are known to have different weights or configs."""
    own = {entry.key: entry.value for entry in source.metadata_props}
    for name in SAME:
        found = compiled.metadata.get(name)
        if found and found != own.get(name, found):
            what = f"not compiled from this ONNX file: different {name}"
            raise UserError(what, where=args.model, expected=f"that of {args.onnx}", hint=f"rm {args.model}; make om")


def walk_graphs(job: Job) -> list[Operator]:
    """Run and compare both graphs, with one image at a time, or, if the compiled graph accepts only its own batch size,
    with batches that repeat one image. Raises WorkFailed if the graphs cannot be compared."""
    size = max(1, job.compiled.inputs[0].shape[0])
    walk = Walk(job.source, read_onnx(job.args.model, "make om"))
    for count in dict.fromkeys((1, size)):
        try:
            for image in progress(job.images, unit="images"):
                values = job.batch([image] * count)
                walk.add(planes(values, job.config), values)
            return walk.operators()
        except BatchDiffers as error:
            reason = str(error)
            walk.reset()
    raise WorkFailed(f"the graphs cannot be compared: {reason}", where=job.args.model)


def one_batch(images: list[InputImage], compiled: CompiledModel) -> list[InputImage]:
    """The first images that have the same shape, at most one batch."""
    return [image for image in images if image.shape == images[0].shape][: compiled.inputs[0].shape[0]]


def run_msprobe(job: Job) -> list[Operator]:
    """Compare on the device, with one batch: the images are repeated if there are too few."""
    size = job.compiled.inputs[0].shape[0]
    values = job.batch([job.images[at % len(job.images)] for at in range(size)])
    folder = job.args.output.with_suffix("")
    msprobe.clean(folder)
    batch = folder / "batch.bin"
    write_bin(batch, values)
    name = job.compiled.inputs[0].name
    shape = ",".join(map(str, planes(values[:1], job.config).shape[1:]))
    command_line = msprobe.build_command(
        job.args.onnx, job.args.model, folder, batch, f"{name}:{size},{shape}", job.args.device
    )
    msprobe.run(command_line)
    found = msprobe.read_result(msprobe.find_result(folder), job.source)
    if not found:
        raise WorkFailed("msprobe's table lists no operator of the ONNX file", where=folder)
    return found


def run(args: argparse.Namespace) -> None:
    """Compare, write the Markdown and the record, print the worst operators."""
    if args.model.suffix not in (".onnx", ".om"):
        what, hint = "cannot compare the operators of this model", "BACKEND=onnxruntime"
        raise UserError(what, where=args.model, expected=".onnx or .om", hint=hint)
    config, path = load_config(args.cfg), args.inputs / "manifest.json"
    manifest, compiled, source = Manifest.read(path), CompiledModel.read(args.model), read_onnx(args.onnx, "make onnx")
    check_manifest(manifest, path, config, args.cfg)
    check_same_weights(source, compiled, args)
    images = spread(manifest.images, args.images)
    if args.model.suffix == ".om":
        images = one_batch(images, compiled)
    unsuitable = next((image for image in images if not compiled.accepts(image.shape)), None)
    if unsuitable or manifest.dtype != compiled.inputs[0].dtype:
        found = f"{manifest.dtype}{(unsuitable or images[0]).shape}"
        expected = f"{compiled.inputs[0].dtype}{compiled.inputs[0].shape[1:]}"
        raise UserError("inputs do not fit the model", where=args.inputs, expected=expected, found=found)
    settings = {"images": args.images, "config_sha256": config_sha256(config), "device": args.device}
    settings["inputs_state"] = tensors_state(args.inputs)
    stamp = Stamp.compute(["compare.operators"], settings, {"onnx": args.onnx, "model": args.model, "manifest": path})
    products = [args.output.with_suffix(".md"), args.output]
    if is_current(args.output, stamp, products):
        return touch(args.output, products)
    make_folder(args.output.parent)
    job = Job(config, source, compiled, manifest, images, args)
    operators = walk_graphs(job) if args.model.suffix == ".onnx" else run_msprobe(job)
    lines = findings(operators)
    content: dict[str, Any] = {
        "model": args.model.name,
        "model_sha256": compiled.model_sha256,
        "onnx_sha256": sha256_file(args.onnx),
        "manifest_sha256": manifest.sha256(),
        "tool": "msprobe" if args.model.suffix == ".om" else "onnxruntime",
        "images": [image.source for image in images],
        "findings": lines,
        "operators": [asdict(each) for each in operators],
    }
    title = f"{args.model.name}: error of each operator on {plural(len(images), 'image')}"
    write_tables(args.output, title, table(operators, SHOWN), table(operators, LISTED), lines)
    write_record(args.output, "operators", content)
    write_stamp(args.output, stamp, products)
    return print(f"wrote {args.output} ({plural(len(operators), 'operator')}, {plural(len(images), 'image')})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m compare.operators", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--onnx", type=Path, required=True, help="the float32 ONNX file")
    parser.add_argument("--model", type=Path, required=True, help="compiled model with its record beside it")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of inputs with its manifest.json")
    parser.add_argument("--output", type=Path, required=True, help="record to write (JSON); .md is written beside it")
    text = "number of images; for an .om at most one batch (%(default)s)"
    parser.add_argument("--images", type=integer(1), default=8, help=text)
    parser.add_argument("--device", default="0", help="device id, for an .om (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
