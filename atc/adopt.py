"""Write the record that infer needs (`<om>.json`, hrnet.io.compiled) for a model that was compiled elsewhere.

    python -m atc.adopt --om my.om --model my.onnx --batch_size 16
    python -m atc.adopt --om my.om --input_tensor image:float32:16,3,224,224 --output_tensor class:float32:16,1000
    python -m atc.adopt --om my.onnx

The inputs and outputs of an .om can only be read on a device. So give the ONNX file that it was compiled from and
--batch_size, or the name, dtype and shape of each tensor in the model's order, with the batch size first. A compiled
.onnx contains this information.

The .om must start with the right bytes, all sizes must be fixed, and inputs and outputs must have the same batch size.
Other errors are found when the model runs: infer checks every output against the record.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, command, integer
from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.tensor_names import DTYPES

OM_START = b"IMOD"  # MODEL_FILE_MAGIC_NUM of CANN's GE, 0x444F4D49, little-endian
SIZES = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*")
USE_TENSORS = "give --input_tensor and --output_tensor instead of --model"


def tensor(text: str) -> TensorInfo:
    """An argparse type: `name:dtype:n,c,h,w`; the name may contain a colon."""
    name, dtype, sizes = ["", "", *text.rsplit(":", 2)][-3:]
    if not name or dtype not in DTYPES or not SIZES.fullmatch(sizes):
        expected = "name:dtype:sizes such as image:float32:16,3,224,224"
        raise argparse.ArgumentTypeError(f"expected {expected}, dtype one of {', '.join(DTYPES)}, found {text!r}")
    return TensorInfo(name, dtype, [int(size) for size in sizes.split(",")])


def from_onnx(model: Path, batch_size: Optional[int]) -> tuple[list[TensorInfo], list[TensorInfo], dict[str, str]]:
    """Inputs, outputs and metadata of the ONNX file, with `batch_size` or else the fixed batch size of the file."""
    try:
        from atc import graph  # needs onnx, which may not be installed on a board
        from atc.atc_command import shapes_for_batch
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed, cannot read the file", where=model, hint=USE_TENSORS) from None
    from atc.shapes import AtcError

    try:
        source = graph.read(model)
        inputs, metadata = graph.inputs(source), graph.metadata_of(source)
        fixed = inputs[0].shape[0] if inputs and inputs[0].shape else 0
        if batch_size is None and fixed < 1:
            raise UserError("not compiled: the batch size is dynamic", where=model, hint=f"make om ONNX={model}")
        shapes = shapes_for_batch(inputs, batch_size or fixed, 0, model)
        outputs = graph.output_shapes(source, shapes)
    except AtcError as error:
        raise graph.unreadable(model, error, "cannot be read") from None
    return [TensorInfo(each.name, each.dtype, shapes[each.name]) for each in inputs], outputs, metadata


def check(om: Path, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> None:
    """Raise UserError unless every size is known and all batch sizes are equal."""
    for each in outputs:
        if not each.shape or min(each.shape) < 1:
            raise UserError(f"unknown shape of {each.name}", where=om, found=each.shape, hint=USE_TENSORS)
    if len({each.shape[0] for each in (*inputs, *outputs)}) > 1:
        found = ", ".join(f"{each.name} {each.shape}" for each in (*inputs, *outputs))
        raise UserError("inputs and outputs have different batch sizes", where=om, found=found)


def run(args: argparse.Namespace) -> None:
    """Check the model and write its record."""
    if not args.om.is_file():
        raise UserError("no such model", where=args.om)
    model = args.om if args.om.suffix == ".onnx" else args.model
    if model is not args.om:
        with args.om.open("rb") as file:
            start = file.read(len(OM_START))
        if start != OM_START:
            raise UserError("not an .om file", where=args.om, expected=f"{OM_START!r} at the start", found=repr(start))
    if model:
        inputs, outputs, metadata = from_onnx(model, args.batch_size)
    else:
        inputs, outputs, metadata = args.input_tensor, args.output_tensor, {}
    check(args.om, inputs, outputs)
    CompiledModel(
        model_sha256=sha256_file(args.om),
        source_sha256=sha256_file(model) if model else "",
        command=["python", "-m", "atc.adopt", *args.arguments],
        tool="atc.adopt",
        inputs=inputs,
        outputs=outputs,
        gears=[],
        metadata=metadata,
    ).write(args.om)
    lists = [", ".join(f"{each.name} {each.dtype}{each.shape}" for each in tensors) for tensors in (inputs, outputs)]
    print(f"wrote {CompiledModel.record_path(args.om)}: {' -> '.join(lists)}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atc.adopt", description=__doc__.splitlines()[0])
    parser.add_argument("--om", type=Path, required=True, help="compiled model: .om, or .onnx of the emulator of atc")
    parser.add_argument("--model", type=Path, help="the ONNX file that the .om was compiled from")
    parser.add_argument("--batch_size", type=integer(1), help="batch size of the .om, with --model")
    for flag in ("--input_tensor", "--output_tensor"):
        parser.add_argument(flag, type=tensor, action="append", help="name:dtype:sizes; repeat for each tensor")
    args = parser.parse_args(argv)
    given = {name for name in ("model", "batch_size", "input_tensor", "output_tensor") if getattr(args, name)}
    args.arguments = sys.argv[1:] if argv is None else argv
    if args.om.suffix == ".onnx":
        if given:
            parser.error("an .onnx file contains its inputs and outputs: give only --om")
    elif given not in ({"model", "batch_size"}, {"input_tensor", "output_tensor"}):
        parser.error("give --model and --batch_size, or --input_tensor and --output_tensor")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
