"""The command line of `amct_onnx calibration`, and its requirements for a model; shared by amct.quantize, which builds
the command, and amct.emulator, which accepts it.

Source: the help text of amct_onnx (CANN 7.0 to 9.0) and CANN's documentation of AMCT. Without --batch_num only one
file is used. A flag and its value are separated by a space or by `=`. With a space after the `=`, the value would be
empty.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import onnx

from hrnet.cli import UserError, integer
from hrnet.io.files import AnyPath
from hrnet.io.quantized import OPSETS

COMMAND = "calibration"
# Endings of the two files that amct_onnx writes; --save_path is the beginning of their names
DEPLOY, FAKE_QUANT = "_deploy_model.onnx", "_fake_quant_model.onnx"
DATA_TYPE = "float32"
METHODS = ("percentile", "entropy", "minmax")  # of the emulator; among equally good methods it chooses the first
QUANTIZING = ("QuantizeLinear", "AscendQuant")  # operators of the emulator's and of amct_onnx's deploy models
LAYERS = ("AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul")  # operators that amct_onnx quantizes


def build_command(
    model: AnyPath,
    save_path: AnyPath,
    name: str,
    shape: Sequence[int],
    data: AnyPath,
    batches: int,
    config: Optional[AnyPath] = None,
) -> list[str]:
    """The arguments of amct_onnx for a model with one input. `shape`: of the input `name`; only the emulator accepts
    -1; `data`: the directory of `batches` files; `config`: the --calibration_config file."""
    return [
        COMMAND,
        "--model",
        str(model),
        "--save_path",
        str(save_path),
        "--input_shape",
        f"{name}:{','.join(map(str, shape))}",
        "--data_dir",
        str(data),
        "--data_types",
        DATA_TYPE,
        "--batch_num",
        str(batches),
        *(["--calibration_config", str(config)] if config else []),
    ]


def render_config(skipped: Sequence[str]) -> str:
    """The --calibration_config file (protobuf text) that leaves layers in float."""
    return "".join(f'skip_layers: "{name}"\n' for name in skipped)


def parse(argv: Sequence[str], program: str) -> argparse.Namespace:
    """Read a command line. Exits with argparse's message for an unknown command, flag or word."""
    parser = argparse.ArgumentParser(prog=program)
    commands = parser.add_subparsers(required=True, metavar="command")
    calibration = commands.add_parser(COMMAND, help="quantize an ONNX file with calibration inputs")
    calibration.add_argument("--model", required=True, help="float32 ONNX file")
    text = "directory and beginning of the names of the files to write, such as int8/hrnet_w18"
    calibration.add_argument("--save_path", required=True, help=text)
    calibration.add_argument("--input_shape", required=True, help="name:n,c,h,w")
    calibration.add_argument("--data_dir", required=True, help="directory of .bin files, each with one whole batch")
    calibration.add_argument("--data_types", required=True, help=DATA_TYPE)
    calibration.add_argument("--batch_num", type=integer(1), default=1, help="number of files to use (%(default)s)")
    calibration.add_argument("--calibration_config", help='text file with lines such as skip_layers: "Conv_0"')
    text = "for the emulator only: how to find the range of each tensor (default: the method with the smallest error)"
    calibration.add_argument("--method", choices=METHODS, help=text)
    return parser.parse_args(list(argv))


def held_back(images: int, batch: int) -> int:
    """The number of calibration images that compare the methods instead of setting the ranges: a quarter, in whole
    batches, at least one batch. 0 if there is only one batch, which is used for both."""
    return max(images // 4 // batch, 1) * batch if images > batch else 0


def opset_of(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def check_model(model: onnx.ModelProto, where: Path) -> None:
    """Raise UserError for an opset that amct_onnx does not support, and for a model that is already quantized."""
    quantized = next((node for node in model.graph.node if node.op_type in QUANTIZING), None)
    if quantized is not None:
        found = f"{quantized.op_type} {quantized.name}"
        hint = "give the float32 ONNX file that it was made from"
        raise UserError("already quantized", where=where, expected="a float32 model", found=found, hint=hint)
    if opset_of(model) not in OPSETS:
        expected = f"{OPSETS[0]} to {OPSETS[-1]}"
        hint = "export it again by torch.onnx.export(..., opset_version=11, dynamo=False), or give PRECISION=fp16"
        raise UserError(
            "amct_onnx does not support this opset", where=where, expected=expected, found=opset_of(model), hint=hint
        )


def read_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """Read an ONNX file. Raises UserError if it is missing, or not an ONNX file."""
    if not path.is_file():
        raise UserError("no such model", where=path, hint="run make onnx")
    try:
        model = onnx.load(path, load_external_data=weights)
        if not (model.graph.node and model.graph.output and model.opset_import):
            raise ValueError("truncated")
    except Exception:  # from protobuf or external weights: no common base class
        raise UserError("not an ONNX file that can be read", where=path) from None
    return model


def one_input(model: onnx.ModelProto, where: Path) -> onnx.ValueInfoProto:
    """The only input of the model. Raises UserError if there are several, or if it is not float32."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        found = ", ".join(f"{value.name} {dtype(value)}" for value in inputs) or "no input"
        raise UserError("cannot be quantized", where=where, expected="one float32 input", found=found)
    return inputs[0]


def dtype(value: onnx.ValueInfoProto) -> str:
    """The dtype of an input, such as `float32` or `int64`."""
    kinds = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    kind = value.type.tensor_type.elem_type
    return DATA_TYPE if kind == onnx.TensorProto.FLOAT else kinds.get(kind, "of unknown type")


def dims(value: onnx.ValueInfoProto) -> list[Optional[int]]:
    """The shape of an input; None where it is dynamic."""
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
