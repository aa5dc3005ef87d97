"""The summary of one pass, in the format of ais_bench: a file and printed lines."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from hrnet.io.files import write_text
from infer.emulator.pipeline import Times
from infer.runtimes.base import Runtime


def statistics(milliseconds: list[float]) -> dict[str, float]:
    """Statistics of the milliseconds of each batch, as in ais_bench."""
    values = np.asarray(milliseconds)
    figures = {"min": values.min(), "max": values.max(), "mean": values.mean(), "median": np.median(values)}
    figures["percentile(99%)"] = np.percentile(values, 99)
    return {**{name: float(value) for name, value in figures.items()}, "count": values.size}


def print_line(name: str, figures: dict[str, float]) -> None:
    print(f"[INFO] {name} (ms):", ", ".join(f"{key} = {value}" for key, value in figures.items() if key != "count"))


def write_summary(
    args: argparse.Namespace, runtime: Runtime, times: Times, batch: int, files: dict[Path, list[Path]]
) -> None:
    """Write <output_dirname>_summary.json of a pass and print it as ais_bench does. H2D and D2H are 0: a runtime that
    copies to a device and back does so within the compute time."""
    batch = args.batchsize or batch
    compute, transfer = statistics(times.device_ms), statistics([0.0] * len(times.device_ms))
    mean = compute["mean"]
    throughput = 1000 * batch / mean
    summary = {
        "filesinfo": {
            str(i): {"infiles": [str(infile)], "outfiles": list(map(str, outfiles))}
            for i, (infile, outfiles) in enumerate(files.items())
        },
        "args": vars(args),
        "NPU_compute_time": compute,
        "H2D_latency": transfer,
        "D2H_latency": transfer,
        "npu_compute_time_list": times.device_ms,
        "throughput": throughput,
        "pid": os.getpid(),
        "host_seconds": {"read": times.read, "infer": times.infer, "write": times.write, "total": times.total},
        "runtime": runtime.version,
    }
    write_text(Path(args.output, f"{args.output_dirname}_summary.json"), json.dumps(summary))
    print("[INFO] -----------------Performance Summary------------------")
    for name, figures in (("H2D_latency", transfer), ("NPU_compute_time", compute), ("D2H_latency", transfer)):
        if name == "NPU_compute_time" or args.display_all_summary:
            print_line(name, figures)
    print(f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {throughput}", flush=True)
