"""The summary of one pass, as a file and on the screen, as ais_bench writes them."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrnet.io.files import write_text
from infer.emulator.pipeline import Times
from infer.runtimes.base import Runtime


@dataclass(frozen=True)
class Statistics:
    """Milliseconds of each batch, summarised as ais_bench does."""

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
    """The content of <output_dirname>_summary.json. Nothing is copied to a device, so H2D and D2H are zeros."""
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


def write_summary(
    args: argparse.Namespace, runtime: Runtime, times: Times, batch: int, files: dict[Path, list[Path]]
) -> None:
    """Write the summary of a pass and print it as ais_bench does."""
    batch = args.batchsize or batch
    summary = summarise(times, batch, files, vars(args))
    summary["runtime"] = runtime.version
    write_text(Path(args.output, f"{args.output_dirname}_summary.json"), json.dumps(summary))
    compute = Statistics.of(times.device_ms)
    print("[INFO] -----------------Performance Summary------------------")
    if args.display_all_summary:
        print(Statistics.of([0.0] * compute.count).line("H2D_latency"))
    print(compute.line("NPU_compute_time"))
    if args.display_all_summary:
        print(Statistics.of([0.0] * compute.count).line("D2H_latency"))
    mean, throughput = compute.mean, summary["throughput"]
    print(f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {throughput}", flush=True)
