"""Emulator of `amct_onnx calibration` for machines without CANN: the same arguments and files, for onnxruntime.

    python -m amct.emulator calibration --model hrnet_w18.onnx --save_path int8/hrnet_w18 \\
        --input_shape "image:16,3,224,224" --data_dir batches --data_types float32 --batch_num 4

Reads    --model, and the first --batch_num files of --data_dir in the order of their names; each .bin is a whole batch.
         amct_onnx does not support gears. This emulator accepts -1 for height and width in --input_shape; then each
         file is an .npy of any height and width
Writes   <save_path>_deploy_model.onnx and <save_path>_fake_quant_model.onnx. Here both are the same file, a QDQ model
         that onnxruntime and OpenVINO compute in int8; amct_onnx writes operators of its own

The range of each tensor is computed from three quarters of the images by one of three methods (amct.emulator.ranges).
--method selects one; amct_onnx does not have this flag. Without it, the emulator uses the method whose outputs agree
best with float32 on the last quarter. If there are only images for one batch of the model, they are used for both. The
metadata of the files contain the arguments (of a path only the last part), the method, and the error of each method
that was tried.

--calibration_config: only `skip_layers: "NAME"` lines (nodes that stay float32) and `batch_num: N` are supported. Not
supported: --evaluator, and models with several inputs. Exit code 2 for wrong arguments, files or models; the error
messages differ from those of amct_onnx.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import onnx

from amct import amct_rules
from amct.amct_rules import METHODS
from amct.emulator import quantizer
from hrnet.cli import UserError, command, first_few, plural
from hrnet.io.files import make_folder, replacing
from hrnet.keep_float import locate

DYNAMIC = -1  # in --input_shape
CHUNK = 2 * 3 * 224 * 224  # values of the input that are computed at a time, if the batch size is dynamic
METADATA_PREFIX = "amct."
PATHS = ("model", "save_path", "data_dir", "calibration_config")


class Settings(NamedTuple):
    """The content of a --calibration_config file."""

    skipped: list[str]
    batch_num: Optional[int]


class Inputs(NamedTuple):
    """Calibration inputs: images `first` to `end` of all files, one file after another."""

    files: list[Path]  # with one batch each
    shape: list[int]  # of a batch; -1 where an .npy may have any size
    size: int  # images that are computed at a time, at most
    first: int
    end: int

    @property
    def images(self) -> int:
        return self.end - self.first

    def read(self) -> Iterator[np.ndarray]:
        """float32 [at most `size`, C, H, W], in order."""
        batch = self.shape[0]
        for number, path in enumerate(self.files):
            first, end = max(self.first - number * batch, 0), min(self.end - number * batch, batch)
            if first < end:
                npy = path.suffix == ".npy"
                values = np.load(path) if npy else np.fromfile(path, np.dtype("<f4")).reshape(self.shape)
                yield from (values[start : min(start + self.size, end)] for start in range(first, end, self.size))


def read_settings(path: Optional[str], nodes: set[str]) -> Settings:
    """Read a protobuf text file. Raises UserError for a field that is not supported, and for an unknown node."""
    skipped, batch_num = [], None
    if path is None:
        return Settings([], None)
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        field = re.fullmatch(r'(skip_layers)\s*:\s*"([^"]*)"|(batch_num)\s*:\s*([1-9][0-9]*)', text)
        if text and not field:
            expected = 'skip_layers: "NAME" or batch_num: N'
            raise UserError(
                f"line {number} is not supported by the emulator", where=path, expected=expected, found=text
            )
        if field and field[1]:
            skipped.append(field[2])
        elif field:
            batch_num = int(field[4])
    unknown = [name for name in skipped if name not in nodes]
    if unknown:
        raise UserError("skip_layers: no such node in the model", where=path, found=first_few(unknown))
    return Settings(skipped, batch_num)


def shape_text(value: onnx.ValueInfoProto) -> str:
    """What --input_shape may be, such as `image:N,3,224,224`; a letter is a dynamic axis: give a size instead."""
    own = amct_rules.dims(value)
    named = [str(size) if size is not None else "NCHW"[axis : axis + 1] or "D" for axis, size in enumerate(own)]
    either = ", with sizes or -1 for both H and W" if named[2:] == ["H", "W"] else ""
    return f"{value.name}:{','.join(named)}{either}"


def read_shape(text: str, value: onnx.ValueInfoProto) -> list[int]:
    """The shape in --input_shape. Raises UserError if it does not fit the model's input."""
    match = re.fullmatch(r"(.+):([1-9][0-9]*(?:,(?:[1-9][0-9]*|-1))*)", text)
    own = amct_rules.dims(value)
    if not match or match[1] != value.name:
        raise UserError("wrong --input_shape", expected=shape_text(value), found=text)
    shape = [int(size) for size in match[2].split(",")]
    if (
        len(shape) != len(own)
        or any(known not in (None, size) for known, size in zip(own, shape))
        or DYNAMIC in shape[:2]
        or (DYNAMIC in shape and shape[2:] != [DYNAMIC, DYNAMIC])
    ):
        raise UserError("--input_shape does not fit the model", expected=shape_text(value), found=text)
    return shape


def check_npy(path: Path, shape: list[int]) -> None:
    """Raise UserError unless the file has a float32 batch of `shape`, with any height and width."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise UserError("not a readable npy file", where=path) from None
    if array.dtype != np.float32 or list(array.shape[:2]) != shape[:2] or array.ndim != len(shape):
        found = f"{array.dtype}{list(array.shape)}"
        raise UserError("not a whole batch", where=path, expected=f"float32{shape}", found=found)


def find_inputs(folder: Path, shape: list[int], count: int, whole: bool) -> Inputs:
    """The images in the first `count` files. `whole`: the model has a fixed batch size. Raises UserError if there are
    fewer files, or if one has another size than a batch."""
    if not folder.is_dir():
        raise UserError("no such directory", where=folder)
    suffix = ".npy" if DYNAMIC in shape else ".bin"
    files = sorted(path for path in folder.iterdir() if path.suffix == suffix)[:count]
    if len(files) < count:
        raise UserError(f"too few {suffix} files", where=folder, expected=f"{count} (--batch_num)", found=len(files))
    if DYNAMIC in shape:
        for path in files:
            check_npy(path, shape)
        return Inputs(files, shape, shape[0], 0, count * shape[0])
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    for path in files:
        if path.stat().st_size != size:
            expected = f"{size} bytes, one batch of float32{shape}"
            raise UserError("not a whole batch", where=path, expected=expected, found=path.stat().st_size)
    images = shape[0] if whole else max(1, min(shape[0], CHUNK // int(np.prod(shape[1:]))))
    return Inputs(files, shape, images, 0, count * shape[0])


def hold_back(inputs: Inputs, batch: int) -> tuple[Inputs, Inputs]:
    """The images that set the ranges, and those that compare the methods. `batch`: the model's batch size, or 1 if it
    accepts any."""
    held = amct_rules.held_back(inputs.images, batch)
    end = inputs.end - held
    return inputs._replace(end=end), inputs._replace(first=end) if held else inputs


def describe(calibrating: Inputs, held: Inputs) -> str:
    """Which images the ranges and the errors were computed on."""
    if calibrating == held:
        return f"its ranges and its error are from the same {plural(held.images, 'calibration image')}"
    total = plural(calibrating.images + held.images, "calibration image")
    return f"its ranges are from {calibrating.images} of {total}, its error is from the other {held.images}"


def metadata(args: argparse.Namespace, method: str, errors: dict[str, float]) -> dict[str, str]:
    given = {name: value for name, value in vars(args).items() if value is not None}
    recorded = {name: Path(value).name if name in PATHS else str(value) for name, value in given.items()}
    figures = {f"error_{name}": f"{error:.6g}" for name, error in errors.items()}
    return {METADATA_PREFIX + name: value for name, value in {**recorded, "method": method, **figures}.items()}


def quantize(args: argparse.Namespace) -> list[Path]:
    """Quantize --model and return the two files. Raises UserError."""
    path = Path(args.model)
    model = amct_rules.read_model(path)
    amct_rules.check_model(model, path)
    value = amct_rules.one_input(model, path)
    if args.data_types != amct_rules.DATA_TYPE:
        raise UserError("unsupported --data_types", expected=amct_rules.DATA_TYPE, found=args.data_types)
    settings = read_settings(args.calibration_config, {node.name for node in model.graph.node})
    shape = read_shape(args.input_shape, value)
    count = settings.batch_num or args.batch_num
    batch = amct_rules.dims(value)[0]
    inputs = find_inputs(Path(args.data_dir), shape, count, whole=batch is not None)
    calibrating, held = hold_back(inputs, batch or 1)
    prepared = quantizer.prepare(model)
    skipped = locate(settings.skipped, model.graph, prepared.graph)
    histograms = quantizer.collect(prepared, calibrating.read)
    candidates, errors = {}, {}
    for method in [args.method] if args.method else METHODS:
        candidates[method] = quantizer.quantize(prepared, histograms, method, skipped)
        expected, found = (quantizer.results(each, held.read()) for each in (prepared, candidates[method]))
        errors[method] = quantizer.relative_error(expected, found)
        print(f"{method}: relative error {errors[method]:.3g} on {plural(held.images, 'image')}")
    method = min(errors, key=lambda name: errors[name])
    chosen, own = candidates[method], {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(chosen, {**own, **metadata(args, method, errors)})
    targets = [Path(args.save_path + ending) for ending in (amct_rules.FAKE_QUANT, amct_rules.DEPLOY)]
    make_folder(targets[0].parent)
    for target in targets:
        with replacing(target) as temporary:
            onnx.save(chosen, temporary)
    why = "as given" if args.method else "the smallest error"
    print(f"method for the ranges: {method} ({why}); {describe(calibrating, held)}")
    return targets


@command
def main(argv: Optional[list[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = amct_rules.parse(argv, "python -m amct.emulator")
    quantize(args)
