"""TorchScript file -> the file that infer runs, with its record for one batch size or for the gears of a config.

Reads    the config and --model, written by pth2onnx.torchscript or another tool
Writes   --output, its record `<output>.json` (hrnet.io.compiled) and a stamp

    python -m pth2onnx.static --cfg hrnet_w18 --model build/hrnet_w18/model.ts \\
        --output build/hrnet_w18/om/bs16-float32-fp32.ts --batch_size 16

Corresponds to atc.convert. A TorchScript file contains no tensor names and no sizes, so both are taken from the
config's network. The shapes of the file's outputs must match this network; so must the config hash in the file's
metadata, if it has one. The file accepts any batch size; the record contains the one for infer.

With --input_dtype uint8 the model accepts pixels and normalises them by INPUT.MEAN and STD, with the same arithmetic as
AIPP (docs/decisions/0010-uint8-inputs.md). With float32 the file is copied, and frozen if it is not frozen yet.
--precision and --soc_version are recorded; infer's runtimes apply them when they load the file
(docs/decisions/0020-torchscript.md).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from yacs.config import CfgNode

from hrnet.cann import chip_name
from hrnet.cli import UserError, command, integer, plural
from hrnet.config import add_cfg_argument, check_same_config, config_sha256, load_config
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import check_free_disk, make_folder, replacing, sha256_file
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.io.tensor_names import INPUT_LAYOUTS, input_shape
from hrnet.io.torchscript import PRECISION, SOC_VERSION, read_metadata
from hrnet.schemas import POSE
from pth2onnx.parity import KINDS, SEED, check_parity, images_like, torchscript_warnings
from pth2onnx.torchscript import TASKS, freeze, save

KIND, SUFFIX = "TorchScript", ".ts"
BACKENDS = {"torchscript": "fp32", "torch_aie": "fp16"}  # backend: default precision


class Pixels(torch.nn.Module):
    """Normalises uint8 pixels [N, H, W, 3] to float32 [N, 3, H, W] and computes the outputs of `net`."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: torch.jit.ScriptModule, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", 255 * torch.tensor(mean))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)))

    def forward(self, pixels: torch.Tensor) -> object:
        return self.net(((pixels.to(torch.float32) - self.mean) * self.scale).permute(0, 3, 1, 2))


def output_shapes(config: CfgNode, inputs: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """The output shapes of the config's network for each input shape [N, 3, H, W]; no values are computed."""
    with torch.device("meta"):
        net = TASKS[config.MODEL.NAME].build(config).eval()
        results = [net(torch.empty(*shape)) for shape in inputs]
    return [[list(each.shape) for each in (result if isinstance(result, list) else [result])] for result in results]


def input_shapes(config: CfgNode, batch_size: int) -> list[list[int]]:
    """The input shapes [N, 3, H, W] to compile for: one for a classifier, one per gear for a pose model."""
    if config.MODEL.NAME != POSE:
        return [[batch_size, *input_shape("float32", *config.MODEL.IMAGE_SIZE)]]
    if not config.INPUT.GEARS:
        raise UserError("the config has no INPUT.GEARS", expected="heights and widths", hint="run make gears")
    if batch_size != 1:
        hint = "give --batch_size 1 (BATCH=1)"
        raise UserError("unsupported --batch_size for a model with gears", expected=1, found=batch_size, hint=hint)
    return [[1, 3, *gear] for gear in config.INPUT.GEARS]


def file_shape(shape: Sequence[int], dtype: str) -> list[int]:
    """Convert an input shape [N, 3, H, W] to the layout of input files of `dtype`."""
    batch, _, height, width = shape
    return [batch, *input_shape(dtype, width, height)]


def merge_shapes(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Combine shapes into one, with -1 for sizes that differ."""
    return [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes)]


def check_outputs(model: Path, cfg: Path, shape: Sequence[int], expected: Sequence[Sequence[int]]) -> None:
    """Run the file once. Raises UserError if this fails or if the output shapes differ from `expected`."""
    try:
        found = [list(output.shape) for output in KINDS[KIND](model)(np.zeros(shape, np.float32))]
    except RuntimeError as error:  # torch raises only this one; the last line is the reason
        message = str(error).strip().splitlines()[-1]
        what = f"torch cannot run the model with input shape {list(shape)}: {message}"
        raise UserError(what, where=model, hint="run make torchscript") from None
    if found != list(expected):
        hint = "give the config that the model was exported with"
        what = f"output shapes do not match {cfg}"
        raise UserError(what, where=model, expected=list(expected), found=found, hint=hint)


def check_supported(config: CfgNode, dtype: str, precision: str, backend: str) -> None:
    """Raise UserError for a combination of model, dtype and precision that the runtime `backend` does not support."""
    if backend == "torch_aie" and (dtype == "uint8" or config.MODEL.NAME == POSE):
        expected, found = "float32 inputs of a classification model", f"{dtype} inputs of {config.MODEL.NAME}"
        hint = "use BACKEND=torchscript or BACKEND=ascend"
        raise UserError("not supported by --backend torch_aie", expected=expected, found=found, hint=hint)
    if backend == "torchscript" and (dtype, precision) == ("uint8", "fp16"):
        what = "unsupported --input_dtype with --precision fp16"
        raise UserError(what, expected="float32", found=dtype, hint="use INPUT=float32")


def write(config: CfgNode, model: Path, shape: Sequence[int], dtype: str, metadata: dict[str, str], file: Path) -> None:
    """Write `model` to `file`; for uint8 with normalisation. `shape`: an input shape [1, 3, H, W] for tracing."""
    mean, std = config.INPUT.MEAN, config.INPUT.STD
    with torchscript_warnings():
        net = torch.jit.load(str(model)).eval()
    if dtype == "uint8":
        save(freeze(Pixels(net, mean, std).eval(), np.zeros(file_shape(shape, dtype), np.uint8)), metadata, file)
    elif list(net.parameters()):  # not frozen
        with torchscript_warnings():
            save(torch.jit.freeze(net), metadata, file)
        check_parity(net, file, [images_like(1, shape[:1:-1], mean, std, SEED)], KIND)
    else:
        shutil.copyfile(model, file)


def run(
    cfg: Path,
    model: Path,
    output: Path,
    batch_size: int,
    input_dtype: str,
    precision: str,
    backend: str,
    soc_version: str,
    arguments: list[str],
) -> None:
    """Check the file against the config and write it with its record. `arguments`: the command line, for the record."""
    if output.suffix != SUFFIX:
        raise UserError("wrong file name suffix", where=output, expected=SUFFIX, found=repr(output.suffix))
    config, metadata = load_config(cfg, *TASKS), read_metadata(model)
    precision = BACKENDS[backend] if precision == "default" else precision
    check_supported(config, input_dtype, precision, backend)
    cfg_sha256 = config_sha256(config)
    hint = "give the MODEL that the file was exported from"
    check_same_config(metadata, cfg_sha256, cfg, model, "exported from another config", hint)
    inputs = input_shapes(config, batch_size)
    for_device = {PRECISION: precision, **({SOC_VERSION: chip_name(soc_version)} if backend == "torch_aie" else {})}
    settings: dict[str, Any] = {"config_sha256": cfg_sha256, "batch_size": batch_size, "input_dtype": input_dtype}
    settings |= {**for_device, "backend": backend, "torch": torch.__version__}
    stamp, records = Stamp.compute(["pth2onnx.static"], settings, {"model": model}), [Path(f"{output}.json"), output]
    if is_current(output, stamp, records):
        return touch(output, records)
    single = [[1, *shape[1:]] for shape in inputs]
    outputs = [[[batch_size, *shape[1:]] for shape in shapes] for shapes in output_shapes(config, single)]
    smallest = min(range(len(inputs)), key=lambda i: inputs[i][2] * inputs[i][3])
    check_outputs(model, cfg, single[smallest], [[1, *shape[1:]] for shape in outputs[smallest]])
    metadata.update(for_device)
    on_disk = [file_shape(shape, input_dtype) for shape in inputs]
    interface = TASKS[config.MODEL.NAME].interface(config)
    make_folder(output.parent)
    check_free_disk(output.parent, model.stat().st_size)
    with replacing(output) as temporary:
        write(config, model, single[smallest], input_dtype, metadata, temporary)
        CompiledModel(
            model_sha256=sha256_file(temporary),
            source_sha256=stamp.files["model"],
            command=["python", "-m", "pth2onnx.static", *arguments],
            tool="pth2onnx.static",
            inputs=[TensorInfo(interface.input, input_dtype, merge_shapes(on_disk))],
            outputs=[
                TensorInfo(name, "float32", merge_shapes(each)) for name, each in zip(interface.outputs, zip(*outputs))
            ],
            gears=[Gear(*pair) for pair in zip(on_disk, outputs)] if config.MODEL.NAME == POSE else [],
            metadata=metadata,
        ).write(output)
    write_stamp(output, stamp, records)
    what = plural(len(inputs), "gear") if config.MODEL.NAME == POSE else f"batch {batch_size}"
    return print(f"wrote {output} ({what}, {precision}, {output.stat().st_size / 1e6:.1f} MB)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.static", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="TorchScript file to read")
    parser.add_argument("--output", type=Path, required=True, help="TorchScript file to write (.ts)")
    parser.add_argument("--batch_size", type=integer(1), default=16, help="batch size for infer (%(default)s)")
    text = "uint8: the model normalises pixels (default: %(default)s)"
    parser.add_argument("--input_dtype", choices=INPUT_LAYOUTS, default="float32", help=text)
    text = "default: fp16 for torch_aie, else fp32"
    parser.add_argument("--precision", choices=("default", "fp16", "fp32"), default="default", help=text)
    parser.add_argument("--backend", choices=BACKENDS, default="torchscript", help="runtime (%(default)s)")
    parser.add_argument("--soc_version", default="Ascend310P3", help="chip, only for torch_aie (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)), arguments=sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
