"""The twin of ais_bench: the same arguments, rules, files and screen lines, computed by a runtime of this machine.

    python -m infer.emulator --model build/hrnet_w18/om/bs16-float32-fp32.onnx --outfmt BIN
        --input build/hrnet_w18/prep/imagenet-float32 --output build/hrnet_w18/out/imagenet-float32
        --output_dirname onnxruntime-bs16-fp32 --batchsize 16 --device 0 --runtime onnxruntime

Reads    the model that atc's twin made; the .bin and .npy of --input itself, in natural order
Writes   <output>/<output_dirname>/<stem>_<k>.<bin|npy|txt>, then <output>/<output_dirname>_summary.json
Pure     without --input one batch of --pure_data_type is computed --loop times and written whole, pure_infer_data_<k>
Exits    0 done, 2 a bad argument, 1 anything else

Contract: ais_bench 0.0.2, https://gitee.com/ascend/tools. Ours: an .npy of another dtype than the model's is
refused (ais_bench checks bytes alone), the summary has two keys more, `host_seconds` and `runtime`, and batches are
computed side by side unless --requests 1 says as ais_bench does, one after another.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.cli import UserError, WorkFailed, command, integer
from hrnet.io.files import make_folder, write_text
from hrnet.io.tensors import OUTPUT_FORMATS, write_output
from infer import runtimes
from infer.emulator import dynamic_dims, path_checks
from infer.emulator.pipeline import Times, pure_data, requests, run_pure, warm_up

PURE = Path("pure_infer_data")  # ais_bench's name for the input of a run without --input


@dataclass(frozen=True)
class Statistics:
    """Milliseconds a batch, as ais_bench sums them up."""

    min: float
    max: float
    mean: float
    median: float
    percentile99: float
    count: int

    @staticmethod
    def of(milliseconds: list[float]) -> Statistics:
        values = np.asarray(milliseconds)
        middle, high = np.median(values), np.percentile(values, 99)
        return Statistics(values.min(), values.max(), values.mean(), middle, high, values.size)

    def record(self) -> dict[str, float]:
        names = ("min", "max", "mean", "median", "percentile(99%)", "count")
        values = (self.min, self.max, self.mean, self.median, self.percentile99)
        return dict(zip(names, (*map(float, values), self.count)))

    def line(self, name: str) -> str:
        return (
            f"[INFO] {name} (ms): min = {self.min}, max = {self.max}, mean = {self.mean}, "
            f"median = {self.median}, percentile(99%) = {self.percentile99}"
        )


def summarise(times: Times, batch: int, files: dict[Path, list[Path]], args: dict[str, Any]) -> dict[str, Any]:
    """The content of <output_dirname>_summary.json. Nothing crosses to a device here, so H2D and D2H are zeros."""
    compute = Statistics.of(times.device_ms)
    transfer = Statistics.of([0.0] * compute.count).record()
    return {
        "filesinfo": {
            str(i): {"infiles": [str(infile)], "outfiles": list(map(str, outfiles))}
            for i, (infile, outfiles) in enumerate(files.items())
        },
        "args": args,
        "NPU_compute_time": compute.record(),
        "H2D_latency": transfer,
        "D2H_latency": transfer,
        "npu_compute_time_list": times.device_ms,
        "throughput": 1000 * batch / compute.mean,
        "pid": os.getpid(),
        "host_seconds": {"read": times.read, "infer": times.infer, "write": times.write, "total": times.total},
    }


def run(args: argparse.Namespace) -> None:
    """Infer every input of a folder, or one batch --loop times, and write outputs and summary. Raises UserError for
    what ais_bench refuses of the arguments and WorkFailed for what fails afterwards."""
    path_checks.check_emulator_device(args.device, args.runtime in runtimes.WITH_DEVICES)
    path_checks.check_model(args.model)
    inputs = path_checks.list_inputs(args.input) if args.input is not None else []
    folder = Path(args.output, args.output_dirname)
    path_checks.check_output(args.output)
    path_checks.check_output(str(folder))
    try:
        runtime = runtimes.load(args.runtime, args.model, args.requests, int(args.device))
        suffix = args.outfmt.lower()
        make_folder(folder)
        if inputs:
            how = dynamic_dims.Options(args.auto_set_dymdims_mode, args.dymDims, args.flip)
            pipeline = dynamic_dims.pipeline(runtime, inputs, folder, suffix, how)
            warm_up(runtime, pipeline.tensor, args.warmup_count)
            times = pipeline.run(args.loop)
            files = {file: pipeline.output_names(file) for file in inputs}
        else:
            tensor = dynamic_dims.fixed_input(runtime, args.dymDims)
            warm_up(runtime, tensor, args.warmup_count)
            times, outputs = run_pure(runtime, pure_data(args.pure_data_type, tensor), args.loop)
            files = {PURE: [folder / f"{PURE}_{k}.{suffix}" for k in range(len(outputs))]}
            for path, output in zip(files[PURE], outputs):
                write_output(path, output)
        batch = args.batchsize or (pipeline.batch if inputs else tensor.shape[0])
        summary = summarise(times, batch, files, vars(args))
        summary["runtime"] = runtime.version
        write_text(Path(args.output, f"{args.output_dirname}_summary.json"), json.dumps(summary))
    except UserError as error:
        raise WorkFailed(str(error)) from None
    except OSError as error:  # a full disk: no fault of an argument, which exit 2 would mean
        raise WorkFailed(f"{error.filename}: {error.strerror}") from None

    compute = Statistics.of(times.device_ms)
    print("[INFO] -----------------Performance Summary------------------")
    if args.display_all_summary:
        print(Statistics.of([0.0] * compute.count).line("H2D_latency"))
    print(compute.line("NPU_compute_time"))
    if args.display_all_summary:
        print(Statistics.of([0.0] * compute.count).line("D2H_latency"))
    print(
        f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({compute.mean}): {summary['throughput']}"
    )


def boolean(text: str) -> bool:
    """ais_bench's booleans take a value."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise argparse.ArgumentTypeError(f"expected 1, 0, true or false, found {text}")
    return text.lower() in ("1", "true")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.emulator", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", help="folder of .bin or .npy files; without it one batch again and again")
    parser.add_argument("--pure_data_type", choices=("zero", "random"), default="zero", help="of that batch")
    parser.add_argument("--loop", type=integer(1), default=1, help="how often a batch is computed (%(default)s)")
    parser.add_argument("--output", required=True)
    parser.add_argument("--output_dirname", default=time.strftime("%Y_%m_%d-%H_%M_%S"))
    parser.add_argument("--outfmt", choices=OUTPUT_FORMATS, default="BIN")
    parser.add_argument("--batchsize", type=int, help="for the throughput's arithmetic alone")
    parser.add_argument("--warmup_count", type=integer(0), default=1)
    parser.add_argument("--device", default="0", help="this machine is device 0; of torchscript CUDA's")
    parser.add_argument("--divide_input", type=boolean, default=False, help="share the input among devices: here one")
    parser.add_argument(
        "--auto_set_dymdims_mode", type=boolean, default=False, help="each .npy sets the shape of a model with gears"
    )
    parser.add_argument("--dymDims", help="the shape of all inputs of a model with gears: input:1,3,512,640")
    parser.add_argument("--display_all_summary", type=boolean, default=False)
    parser.add_argument("--runtime", choices=runtimes.RUNTIMES, default="onnxruntime", help="ours, not ais_bench's")
    parser.add_argument("--flip", type=boolean, default=False, help="ours: each .npy is mirrored as it is read")
    parser.add_argument("--requests", type=integer(1), default=requests(), help="ours: batches computed side by side")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
