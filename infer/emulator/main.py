"""The emulator of ais_bench: the same arguments, rules, files and messages, computed by a runtime on this machine.

    python -m infer.emulator --model build/hrnet_w18/om/bs16-float32-fp32.onnx --outfmt BIN \\
        --input build/hrnet_w18/prep/imagenet-float32 --output build/hrnet_w18/out/imagenet-float32 \\
        --output_dirname onnxruntime-bs16-fp32 --batchsize 16 --device 0 --runtime onnxruntime

Reads    a model compiled by the emulator of atc or by pth2onnx.static; the .bin and .npy files of --input, in natural
         order
Writes   <output>/<output_dirname>/<stem>_<k>.<bin|npy|txt>, then <output>/<output_dirname>_summary.json
Pure     without --input one batch of --pure_data_type is computed --loop times; its outputs are pure_infer_data_<k>
Exits    0 done; 2 for an error before loading of the model begins, such as a wrong path or a runtime that is not
         installed; 1 for a damaged model and every later error, also for a --dymDims that the model does not support

Emulates ais_bench 0.0.2, https://gitee.com/ascend/tools. Differences: an .npy with a wrong dtype is rejected (ais_bench
checks only the number of bytes), the summary has two more keys, `host_seconds` and `runtime`, and batches are computed
in parallel unless --requests is 1. Additional options: --runtime, --requests, --flip, and --output_flip with
--input_flip for a second pass over flipped inputs without loading the model again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, WorkFailed, command, integer
from hrnet.io.files import make_folder
from hrnet.io.tensor_names import OUTPUT_FORMATS
from hrnet.io.tensors import write_output
from infer import runtimes
from infer.emulator import dynamic_dims, path_checks
from infer.emulator.pipeline import Pipeline, default_requests, pure_data, run_all, run_pure, warm_up
from infer.emulator.report import write_summary
from infer.runtimes.base import Runtime

PURE = Path("pure_infer_data")  # ais_bench's file name for outputs of a run without --input


def run_without_inputs(args: argparse.Namespace, runtime: Runtime, folder: Path) -> None:
    """Compute one batch --loop times and write its outputs."""
    tensor = dynamic_dims.fixed_input(runtime, args.dymDims)
    warm_up(runtime, tensor, args.warmup_count)
    times, outputs = run_pure(runtime, pure_data(args.pure_data_type, tensor), args.loop)
    files = [folder / f"{PURE}_{k}.{args.outfmt.lower()}" for k in range(len(outputs))]
    for path, output in zip(files, outputs):
        write_output(path, output)
    write_summary(args, runtime, times, tensor.shape[0], {PURE: files})


def run_passes(passes: list[argparse.Namespace], runtime: Runtime, inputs: list[list[Path]]) -> None:
    """Infer the inputs of each pass. All passes are checked before the first batch is computed."""
    pipelines: list[Pipeline] = []
    for args, files in zip(passes, inputs):
        folder = Path(args.output, args.output_dirname)
        options = (args.auto_set_dymdims_mode, args.dymDims, args.flip)
        pipelines.append(dynamic_dims.pipeline(runtime, files, folder, args.outfmt.lower(), *options))
    warm_up(runtime, pipelines[0].tensor, passes[0].warmup_count)
    for args, pipeline, times in zip(passes, pipelines, run_all(pipelines, passes[0].loop)):
        names = {file: pipeline.output_names(file) for file in pipeline.inputs}
        write_summary(args, runtime, times, pipeline.batch, names)


def split_passes(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each pass, as for a separate call."""
    first = vars(args).copy()
    input_flip, output_flip = first.pop("input_flip", None), first.pop("output_flip", None)
    if not output_flip:
        return [argparse.Namespace(**first)]
    if args.input is None:
        raise UserError("--output_flip needs --input")
    output, name = os.path.split(os.path.normpath(output_flip))
    own = {"input": input_flip or args.input, "output": output or ".", "output_dirname": name, "flip": True}
    return [argparse.Namespace(**first), argparse.Namespace(**{**first, **own})]


def run(args: argparse.Namespace) -> None:
    """Infer all inputs of a directory, or one batch --loop times, and write outputs and summary. Raises UserError for
    invalid arguments, and WorkFailed for later errors."""
    runtimes.check_device(args.runtime, args.device)
    runtimes.find(args.runtime)
    path_checks.check_model(args.model)
    passes = split_passes(args)
    inputs = [path_checks.list_inputs(each.input) for each in passes if each.input is not None]
    folders = [Path(each.output, each.output_dirname) for each in passes]
    for folder in folders:
        path_checks.check_output(str(folder.parent))
        path_checks.check_output(str(folder))
    try:
        runtime = runtimes.load(args.runtime, args.model, args.requests, int(args.device))
        for folder in folders:
            make_folder(folder)
        if inputs:
            run_passes(passes, runtime, inputs)
        else:
            run_without_inputs(passes[0], runtime, folders[0])
    except UserError as error:
        raise WorkFailed(
            error.what, where=error.where, expected=error.expected, found=error.found, hint=error.hint
        ) from None
    except OSError as error:  # such as a full disk: exit 1, since exit 2 means an invalid argument
        raise WorkFailed(error.strerror or str(error), where=error.filename) from None


def boolean(text: str) -> bool:
    """An argparse type: ais_bench's boolean options have a value."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise argparse.ArgumentTypeError(f"expected 1, 0, true or false, found {text!r}")
    return text.lower() in ("1", "true")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.emulator", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", help="directory of .bin or .npy files; without it one batch is computed repeatedly")
    parser.add_argument(
        "--pure_data_type",
        choices=("zero", "random"),
        default="zero",
        help="values of the batch that is computed without --input (%(default)s)",
    )
    parser.add_argument("--loop", type=integer(1), default=1, help="repetitions of each batch (%(default)s)")
    parser.add_argument("--output", required=True)
    parser.add_argument("--output_dirname", default=time.strftime("%Y_%m_%d-%H_%M_%S"))
    parser.add_argument("--outfmt", choices=OUTPUT_FORMATS, default="BIN")
    parser.add_argument("--batchsize", type=int, help="only used to compute the throughput")
    parser.add_argument("--warmup_count", type=integer(0), default=1)
    parser.add_argument("--device", default="0", help="0; for torchscript a CUDA device, for torch_aie an NPU")
    parser.add_argument("--divide_input", type=boolean, default=False, help="ignored: there is only one device")
    parser.add_argument(
        "--auto_set_dymdims_mode", type=boolean, default=False, help="each .npy sets the shape of a model with gears"
    )
    parser.add_argument("--dymDims", help="shape of all inputs of a model with gears: input:1,3,512,640")
    parser.add_argument("--display_all_summary", type=boolean, default=False)
    own = parser.add_argument_group("options that ais_bench does not have")
    own.add_argument("--runtime", choices=runtimes.RUNTIMES, default="onnxruntime")
    own.add_argument("--flip", type=boolean, default=False, help="flip each .npy when it is read")
    own.add_argument("--requests", type=integer(1), default=default_requests(), help="batches computed in parallel")
    # SUPPRESS: the summary's `args` contains these two only if they are given.
    own.add_argument("--output_flip", default=argparse.SUPPRESS, help="output directory of a second, flipped pass")
    own.add_argument("--input_flip", default=argparse.SUPPRESS, help="inputs of the second pass (default: --input)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
