"""A model that was compiled elsewhere -> the record beside it (`<om>.json`), without which infer cannot take it.

    python -m atc.adopt --om my.om --model my.onnx --batch 16
    python -m atc.adopt --om my.om --input image:float32:16,3,224,224 --output class:float32:16,1000
    python -m atc.adopt --om my.onnx

Reads --om, and the ONNX file that it was compiled from where there is one; writes hrnet.io.compiled. An .om can be
asked for its inputs and outputs on a device alone, so they come from the ONNX file at --batch, or as they are given:
name, dtype and sizes, in the model's own order, the batch first. A compiled .onnx tells them itself.

What is given is believed as far as it can be checked here: that the file is an .om, that nothing varies, that inputs
and outputs have one batch. A wrong size shows when the device runs: infer holds every output against the record.
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
from hrnet.io.tensors import DTYPES

OM_START = b"IMOD"  # MODEL_FILE_MAGIC_NUM of CANN's GE, 0x444F4D49, little-endian
SIZES = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*")


def tensor(text: str) -> TensorInfo:
    """An argparse type: `name:dtype:n,c,h,w`; the name itself may hold a colon."""
    name, dtype, sizes = ["", "", *text.rsplit(":", 2)][-3:]
    if not name or dtype not in DTYPES or not SIZES.fullmatch(sizes):
        expected = "name:dtype:sizes such as image:float32:16,3,224,224"
        raise argparse.ArgumentTypeError(f"expected {expected}, dtype one of {', '.join(DTYPES)}, found {text!r}")
    return TensorInfo(name, dtype, [int(size) for size in sizes.split(",")])


def from_onnx(model: Path, batch: Optional[int]) -> tuple[list[TensorInfo], list[TensorInfo], dict[str, str]]:
    """Inputs, outputs and metadata of the ONNX file, at its own batch where none is given."""
    try:
        from atc import command as seed
        from atc import graph  # onnx, which a board may lack
    except ModuleNotFoundError as error:
        hint = "give --input and --output"
        raise UserError(f"no {error.name} here to read it with", where=model, hint=hint) from None
    from atc.shapes import AtcError

    try:
        source = graph.read(model)
        inputs, metadata = graph.inputs(source), graph.metadata_of(source)
        fixed = inputs[0].shape[0] if inputs and inputs[0].shape else 0
        if batch is None and fixed < 1:
            raise UserError("leaves its batch open", where=model, hint=f"compile it: make om ONNX={model}")
        shapes = seed.batched(inputs, batch or fixed, 0, model)
        outputs = graph.output_shapes(source, shapes)
    except AtcError as error:
        raise UserError(f"cannot be read: {error}", where=model) from None
    return [TensorInfo(each.name, each.dtype, shapes[each.name]) for each in inputs], outputs, metadata


def check(om: Path, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> None:
    """Every size is known, and the batch is one. Raises UserError."""
    for each in outputs:
        if not each.shape or min(each.shape) < 1:
            hint = "give --input and --output instead of --model"
            raise UserError(f"the sizes of {each.name} cannot be told", where=om, found=each.shape, hint=hint)
    if len({each.shape[0] for each in (*inputs, *outputs)}) > 1:
        found = ", ".join(f"{each.name} {each.shape}" for each in (*inputs, *outputs))
        raise UserError("inputs and outputs differ in their first size, the batch", where=om, found=found)


def run(args: argparse.Namespace) -> None:
    """Check the model and write its record."""
    if not args.om.is_file():
        raise UserError("no such model", where=args.om)
    model = args.om if args.om.suffix == ".onnx" else args.model
    if model is not args.om:
        with args.om.open("rb") as file:
            start = file.read(len(OM_START))
        if start != OM_START:
            raise UserError("is no .om", where=args.om, expected=f"{OM_START!r} at its start", found=repr(start))
    if model:
        inputs, outputs, metadata = from_onnx(model, args.batch)
    else:
        inputs, outputs, metadata = args.input, args.output, {}
    check(args.om, inputs, outputs)
    CompiledModel(
        model_sha256=sha256_file(args.om),
        source_sha256=sha256_file(model) if model else "",
        command=["python", "-m", "atc.adopt", *args.words],
        tool="atc.adopt",
        inputs=inputs,
        outputs=outputs,
        gears=[],
        metadata=metadata,
    ).write(args.om)
    told = [", ".join(f"{each.name} {each.dtype}{each.shape}" for each in tensors) for tensors in (inputs, outputs)]
    print(f"wrote {CompiledModel.record_path(args.om)}: {' -> '.join(told)}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atc.adopt", description=__doc__.splitlines()[0])
    parser.add_argument("--om", type=Path, required=True, help="the compiled model: .om, or .onnx of atc's twin")
    parser.add_argument("--model", type=Path, help="the ONNX file that the .om was compiled from")
    parser.add_argument("--batch", type=integer(1), help="the batch that it was compiled for, with --model")
    parser.add_argument("--input", type=tensor, action="append", help="name:dtype:sizes; again for each further one")
    parser.add_argument("--output", type=tensor, action="append", help="name:dtype:sizes; again for each further one")
    args = parser.parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    given = {name for name in ("model", "batch", "input", "output") if getattr(args, name) is not None}
    if args.om.suffix == ".onnx":
        if given:
            parser.error("an .onnx tells its inputs and outputs itself: give --om alone")
    elif given not in ({"model", "batch"}, {"input", "output"}):
        parser.error("give --model and --batch, or --input and --output")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
