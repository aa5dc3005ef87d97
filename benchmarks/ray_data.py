"""Compare the stages with Ray Data on the same images, on this machine: seconds, and equal predictions.

    python -m benchmarks.ray_data --images 16000

Runs one after the other, `--rounds` times: make eval; make cluster, with parts; and Ray Data, which prepares the images
and runs the compiled model as functions on batches, with the same pixel functions and the same runtime. Ray Data keeps
the predictions in memory; the others write inputs, outputs and predictions to files. At the start of each run only the
compiled model exists. Needs Ray Data: pip install "ray[data]".
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np

from benchmarks.cluster import MODEL, RESULT, timed
from benchmarks.shards import write_links
from hrnet.cli import UserError, WorkFailed, command, integer
from hrnet.config import load_config
from hrnet.datasets import find_images
from hrnet.images import Transform
from hrnet.schemas import CLASSIFIERS
from infer.runtimes import onnxruntime_runtime
from preprocess.decode import decode

CFG = Path("configs/demo_digits.yaml")
PREPARED = 256  # images in a batch for `prepare`
BATCH = 16  # of the compiled model


def prepare(batch: dict[str, Any]) -> dict[str, Any]:
    """{source, path} -> {source, input: float32 [N, 3, H, W]}."""
    transform = Transform.of(load_config(CFG, *CLASSIFIERS))
    inputs = [transform.to_input(decode(Path(path).read_bytes()), "float32") for path in batch["path"]]
    return {"source": batch["source"], "input": np.stack(inputs)}


class Infer:
    """The compiled model, in a separate process."""

    def __init__(self, model: str) -> None:
        self.runtime = onnxruntime_runtime.load(model, 1, 1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """{source, input} -> {source, best: class}."""
        count = len(batch["source"])
        padded = np.zeros((BATCH, *batch["input"].shape[1:]), np.float32)
        padded[:count] = batch["input"]
        return {"source": batch["source"], "best": self.runtime.compute(padded)[0][:count].argmax(1)}


def by_ray_data(dataset: Path, model: Path) -> dict[str, int]:
    """{source: best class} by Ray Data. Raises UserError if it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        hint = f'{sys.executable} -m pip install "ray[data]"'
        raise UserError("Ray Data is not installed", where=sys.executable, found=str(error), hint=hint) from None
    found = find_images(dataset, 10)
    rows = [{"source": source, "path": str(Path(dataset, source).absolute())} for source in found.labels]
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        inputs = ray.data.from_items(rows).map_batches(prepare, batch_size=PREPARED)
        constructor = {"model": str(model.absolute())}
        one = ray.data.ActorPoolStrategy(size=1)  # one process: prepare runs on the other CPUs at the same time
        results = inputs.map_batches(
            Infer, batch_size=BATCH, compute=one, num_cpus=0.9, fn_constructor_kwargs=constructor
        )
        return {row["source"]: int(row["best"]) for row in results.take_all()}
    finally:
        ray.shutdown()


def by_make(goal: list[str], build: Path, scratch: Path, given: list[str]) -> tuple[float, dict[str, int]]:
    """Seconds of a goal of make, and {source: best class}. The model is compiled before."""
    subprocess.run(["rm", "-rf", str(scratch)], check=True)
    place = [*given, f"BUILD={scratch}", f"ONNX={build}/demo_digits/model.onnx", "GATE=none"]
    timed(["make", "om", *place])
    seconds = timed(["make", *goal, *place])
    lines = (scratch / RESULT / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return seconds, {line["source"]: line["classes"][0] for line in map(json.loads, lines)}


def run(images: int, shards: int, rounds: int, digits: Path) -> None:
    with tempfile.TemporaryDirectory(dir=digits.parent) as folder:
        build, scratch = Path(folder, "build"), Path(folder, "round")
        dataset = write_links(Path(folder, "set"), digits, images)
        given = [*MODEL, f"PYTHON={sys.executable}"]
        timed(["make", "om", *given, f"DATASET={dataset}", f"BUILD={build}"])
        model = build / "demo_digits/om/bs16-float32-fp32.onnx"
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
        print(f"load of this machine: {load}; {images} images of 64 x 64 pixels")
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            given = [*MODEL, f"PYTHON={sys.executable}", f"DATASET={dataset}"]
            spent, expected = by_make(["eval"], build, scratch, given)
            seconds.setdefault("make eval", []).append(spent)
            spent, found = by_make(["cluster", f"SHARDS={shards}"], build, scratch, given)
            seconds.setdefault(f"make cluster SHARDS={shards}", []).append(spent)
            begun = time.perf_counter()
            others = by_ray_data(dataset, model)
            seconds.setdefault("Ray Data", []).append(time.perf_counter() - begun)
            for name, results in (("make cluster", found), ("Ray Data", others)):
                if results != expected:
                    raise WorkFailed("predictions differ from those of make eval", where=name, found=len(results))
        for name, values in seconds.items():
            print(f"{name}: {statistics.median(values):.1f} s, median of {rounds}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_data", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=integer(1), default=16_000, help="images of the data set (%(default)s)")
    parser.add_argument("--shards", type=integer(1), default=4, help="parts of make cluster (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="runs of each candidate (%(default)s)")
    parser.add_argument("--digits", type=Path, default=Path("data/digits"), help="output of data.digits (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
