"""TorchScript file -> the same for one batch size or for a config's gears, with the record that infer needs.

    python -m pth2onnx.static --cfg configs/hrnet_w18.yaml --model build/hrnet_w18/model.ts \\
        --output build/hrnet_w18/om/bs16-float32-fp32.ts --batch 16

Reads the config and --model, of pth2onnx.torchscript or of another tool; writes --output and the record beside it
(`<output>.json`, hrnet.io.compiled). It stands where atc.convert stands for an ONNX file. A TorchScript file has no
names and no sizes, so both come from the config's net, against which the file is held: its own word on the config, and
the shapes that it gives. It takes any batch; the record says which one infer feeds.

With --input uint8 the file takes pixels and normalises them by INPUT.MEAN and STD, with AIPP's arithmetic (decision
10); else it is a copy, or frozen where another tool left that out. --precision and --soc_version are written down for
infer's runtimes, which bring the file to their device when they load it (decision 20).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, command, integer
from hrnet.config import config_sha256, load_config
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import check_free_disk, make_folder, replacing, sha256_file
from hrnet.io.tensors import INPUT_LAYOUTS, input_shape
from hrnet.io.torchscript import PRECISION, SOC_VERSION, read_metadata
from hrnet.nets import classification, pose
from hrnet.schemas import POSE
from pth2onnx import classification as of_classes
from pth2onnx import pose as of_poses
from pth2onnx.parity import KINDS, SEED, images_like, prove, torchscript_warnings
from pth2onnx.torchscript import freeze, save

KIND, ENDING = "TorchScript", ".ts"
BACKENDS = {"torchscript": "fp32", "torch_aie": "fp16"}  # and what PRECISION=default means there


class Pixels(torch.nn.Module):
    """uint8 [N, H, W, 3] -> what `net` makes of them as normalised float32 [N, 3, H, W]."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: torch.jit.ScriptModule, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", 255 * torch.tensor(mean))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)))

    def forward(self, pixels: torch.Tensor) -> object:
        return self.net(((pixels.to(torch.float32) - self.mean) * self.scale).permute(0, 3, 1, 2))


def names(config: CfgNode) -> tuple[str, tuple[str, ...]]:
    """Of the input and the outputs, as the ONNX file has them."""
    if config.MODEL.NAME != POSE:
        return of_classes.INTERFACE.input, of_classes.INTERFACE.outputs
    interface = of_poses.interface(len(pose.output_channels(config)))
    return interface.input, interface.outputs


def shapes_of(config: CfgNode, inputs: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """The shapes of all outputs of the config's net for each input [N, 3, H, W]; nothing is computed for it."""
    with torch.device("meta"):
        net: Union[pose.PoseNet, classification.ClassificationNet]
        net = pose.build(config) if config.MODEL.NAME == POSE else classification.build(config)
        given = [net.eval()(torch.empty(*shape)) for shape in inputs]
    return [[list(each.shape) for each in (outputs if isinstance(outputs, list) else [outputs])] for outputs in given]


def sizes(config: CfgNode, batch: int) -> list[list[int]]:
    """The inputs [N, 3, H, W] that the file is for: of pose one for each gear."""
    if config.MODEL.NAME != POSE:
        return [[batch, *input_shape("float32", *config.MODEL.IMAGE_SIZE)]]
    if not config.INPUT.GEARS:
        raise UserError("--cfg without INPUT.GEARS", expected="heights and widths", found="none", hint="make gears")
    if batch != 1:
        raise UserError("--batch with gears", expected=1, found=batch, hint="an input sets its own shape")
    return [[1, 3, *gear] for gear in config.INPUT.GEARS]


def in_layout(shape: Sequence[int], dtype: str) -> list[int]:
    """An input's [N, 3, H, W] as it lies on disk."""
    batch, channels, height, width = shape
    return list(shape) if INPUT_LAYOUTS[dtype] == "NCHW" else [batch, height, width, channels]


def free(shapes: Sequence[Sequence[int]]) -> list[int]:
    """One shape for all, with -1 where they differ."""
    return [same[0] if len(set(same)) == 1 else -1 for same in zip(*shapes)]


def check_outputs(model: Path, cfg: Path, shape: Sequence[int], expected: Sequence[Sequence[int]]) -> None:
    """Run the file once. Raises UserError where it is no TorchScript or gives other shapes than the config's net."""
    try:
        found = [list(output.shape) for output in KINDS[KIND](model)(np.zeros(shape, np.float32))]
    except RuntimeError as error:  # torch's one exception, of some lines
        told = str(error).strip().splitlines()[-1]
        raise UserError(f"torch cannot run it on {list(shape)}: {told}", where=model, hint="make torchscript") from None
    if found != list(expected):
        hint = "give the config that it was exported by"
        raise UserError(f"is no model of {cfg}", where=model, expected=list(expected), found=found, hint=hint)


def check_possible(config: CfgNode, dtype: str, precision: str, backend: str) -> None:
    """Refuse what no runtime would do."""
    if backend == "torch_aie" and (dtype == "uint8" or config.MODEL.NAME == POSE):
        expected, found = "float32 of a classification model", f"{dtype} of {config.MODEL.NAME}"
        raise UserError("Torch-AIE's input", expected=expected, found=found, hint="BACKEND=torchscript, or ascend")
    if backend == "torchscript" and (dtype, precision) == ("uint8", "fp16"):
        expected, found = "float32 for it", dtype
        raise UserError("--input with --precision fp16", expected=expected, found=found, hint="INPUT=float32")


def run(
    cfg: Path,
    model: Path,
    output: Path,
    batch: int,
    dtype: str,
    precision: str,
    backend: str,
    soc_version: str,
    words: list[str],
) -> None:
    """Hold the file against the config, write it for that batch, and its record with `words`, the call's arguments."""
    if output.suffix != ENDING:
        raise UserError("wrong ending", where=output, expected=ENDING, found=repr(output.suffix))
    config, metadata = load_config(cfg), read_metadata(model)
    precision = BACKENDS[backend] if precision == "default" else precision
    check_possible(config, dtype, precision, backend)
    own = config_sha256(config)
    if metadata.get("config_sha256", own) != own:
        hint = "say the MODEL that it was exported from"
        raise UserError("is of another config", where=model, expected=cfg, found=metadata.get("model"), hint=hint)
    inputs = sizes(config, batch)
    single = [[1, *shape[1:]] for shape in inputs]
    outputs = [[[batch, *shape[1:]] for shape in shapes] for shapes in shapes_of(config, single)]
    least = min(range(len(inputs)), key=lambda i: inputs[i][2] * inputs[i][3])
    check_outputs(model, cfg, single[least], [[1, *shape[1:]] for shape in outputs[least]])
    metadata[PRECISION] = precision
    if backend == "torch_aie":
        metadata[SOC_VERSION] = soc_version
    entering = [in_layout(shape, dtype) for shape in inputs]
    name, leaving = names(config)
    make_folder(output.parent)
    check_free_disk(output.parent, model.stat().st_size)
    with replacing(output) as temporary:
        with torchscript_warnings():
            net = torch.jit.load(str(model)).eval()
        if dtype == "uint8":
            pixels = Pixels(net, config.INPUT.MEAN, config.INPUT.STD).eval()
            save(freeze(pixels, np.zeros(in_layout(single[least], dtype), np.uint8)), metadata, temporary)
        elif list(net.parameters()):
            with torchscript_warnings():
                save(torch.jit.freeze(net), metadata, temporary)
            prove(
                net, temporary, [images_like(1, single[least][:1:-1], config.INPUT.MEAN, config.INPUT.STD, SEED)], KIND
            )
        else:
            shutil.copyfile(model, temporary)
        CompiledModel(
            model_sha256=sha256_file(temporary),
            source_sha256=sha256_file(model),
            command=["python", "-m", "pth2onnx.static", *words],
            tool="pth2onnx.static",
            inputs=[TensorInfo(name, dtype, free(entering))],
            outputs=[TensorInfo(each, "float32", free(shapes)) for each, shapes in zip(leaving, zip(*outputs))],
            gears=[Gear(*pair) for pair in zip(entering, outputs)] if config.MODEL.NAME == POSE else [],
            metadata=metadata,
        ).write(output)
    what = f"{len(inputs)} gears" if config.MODEL.NAME == POSE else f"batch {batch}"
    print(f"wrote {output} ({what}, {precision}, {output.stat().st_size / 1e6:.1f} MB)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.static", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config")
    parser.add_argument("--model", type=Path, required=True, help="the TorchScript file")
    parser.add_argument("--output", type=Path, required=True, help="the file to write (.ts)")
    parser.add_argument("--batch", type=integer(1), default=16, help="the static batch size (%(default)s)")
    parser.add_argument(
        "--input", dest="dtype", choices=INPUT_LAYOUTS, default="float32", help="uint8: pixels, normalised inside"
    )
    parser.add_argument(
        "--precision", choices=("default", "fp16", "fp32"), default="default", help="fp32; of torch_aie fp16"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="torchscript", help="the runtime that it is for")
    parser.add_argument("--soc_version", default="Ascend310P3", help="the chip that torch_aie compiles for")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    run(**vars(parse_args(words)), words=words)


if __name__ == "__main__":
    sys.exit(main())
