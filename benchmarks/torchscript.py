"""The twin's runtime of TorchScript against torch's own ways and against its runtime of onnxruntime.

    python -m benchmarks.torchscript --cfg configs/hrnet_w18.yaml --weights build/w18.pth --batches 1 8 --rounds 5

The checkpoint is that of benchmarks.seeded_checkpoint, or any other of a classification model. Both runtimes compute as
the twin has them compute, requests side by side; torch computes batch after batch with all cores, as users do. Arrays
are in memory for all, one process, in turn. Outputs further from torch's than parity allows are a failure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import torch

from atc.emulator import main as atc_emulator
from benchmarks.turns import in_turn, report
from hrnet.cli import WorkFailed, command, cores, integer
from hrnet.config import load_config
from hrnet.nets import checkpoint
from hrnet.nets import classification as nets
from hrnet.schemas import CLASSIFICATION
from infer import runtimes
from infer.emulator.pipeline import requests, share_out
from infer.runtimes.base import Runtime
from pth2onnx import classification, static, torchscript
from pth2onnx.parity import TOLERANCE, images_like, outputs_of

PEER = "torch eager"


def eager(net: torch.nn.Module, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of each batch, by all cores."""
    torch.set_num_threads(cores())  # a runtime's threads set their own
    return [outputs_of(net, batch)[0] for batch in batches]


def channels_last(net: torch.nn.Module, batches: list[np.ndarray]) -> list[np.ndarray]:
    """The same of a net whose weights lie so, with the images brought to it."""
    return eager(lambda image: net(image.contiguous(memory_format=torch.channels_last)), batches)  # type: ignore[arg-type]


def side_by_side(runtime: Runtime, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of each batch, as the twin's pipeline has them computed."""
    outputs = [np.empty(0)] * len(batches)

    def work(jobs: Iterator[int]) -> None:
        for job in jobs:
            outputs[job] = runtime.compute(batches[job])[0]

    share_out(range(len(batches)), min(runtime.requests, len(batches)), work)
    return outputs


def difference(name: str, found: np.ndarray, expected: np.ndarray) -> float:
    """The largest one of a logit. Raises WorkFailed where it is more than parity allows."""
    largest, allowed = float(np.abs(found - expected).max()), TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not largest <= allowed:
        raise WorkFailed(f"{name}: logits differ from torch's by {largest:.1e} ({allowed:.1e} allowed)")
    return largest


def compile_both(cfg: Path, weights: Path, folder: Path, batch: int) -> dict[str, Runtime]:
    """The checkpoint by both ways of the chain, at one batch size."""
    shape = [batch, 3, *load_config(cfg, CLASSIFICATION).MODEL.IMAGE_SIZE[::-1]]
    if not (folder / "model.onnx").exists():
        onnx_file = ["--weights", str(weights), "--output", str(folder / "model.onnx")]
        if classification.main(["--cfg", str(cfg), *onnx_file]):
            raise WorkFailed("the export failed, see above")
        torchscript.run(cfg, weights, folder / "model.ts")
    files = {"onnxruntime": folder / f"bs{batch}.onnx", "torchscript": folder / f"bs{batch}.ts"}
    flags = [f"--model={folder / 'model.onnx'}", f"--output={folder / f'bs{batch}'}", "--soc_version=Ascend310P3"]
    if atc_emulator.main(["--framework=5", f"--input_shape=image:{','.join(map(str, shape))}", *flags]):
        raise WorkFailed("atc's twin refused the model, see above")
    where = ["--model", str(folder / "model.ts"), "--output", str(files["torchscript"])]
    if static.main(["--cfg", str(cfg), *where, "--batch_size", str(batch)]):
        raise WorkFailed("the TorchScript file was refused, see above")
    return {name: runtimes.load(name, str(file), requests()) for name, file in files.items()}


def run(cfg: Path, weights: Path, sizes: list[int], count: int, rounds: int) -> None:
    """Print images/s and ratios for each batch size, over `count` images cut down to whole batches."""
    config = load_config(cfg, CLASSIFICATION)
    plain, last = nets.build(config).eval(), nets.build(config).eval()
    for net in (plain, last):
        checkpoint.load(net, weights)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as place:
        for size in sizes:
            both = compile_both(cfg, weights, Path(place), size)
            number = max(1, count // size)
            how = (config.MODEL.IMAGE_SIZE, config.INPUT.MEAN, config.INPUT.STD)
            batches = [images_like(size, *how, seed) for seed in range(number)]
            ways: dict[str, Callable[[], list[np.ndarray]]] = {
                PEER: partial(eager, plain, batches),
                "torch eager, channels last": partial(channels_last, last, batches),
                **{f"twin, {runtime.version}": partial(side_by_side, runtime, batches) for runtime in both.values()},
            }
            expected = np.concatenate(ways[PEER]())
            print(f"{number * size} images, batch {size}, {cores()} cores, {rounds} rounds, medians")
            for name, way in list(ways.items())[1:]:
                told = difference(name, np.concatenate(way()), expected)
                print(f"{name}: max |difference| of a logit {told:.1e}")
            report(in_turn(ways, rounds), number * size, PEER)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torchscript", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True, help="config of a classification model")
    parser.add_argument("--weights", type=Path, required=True, help="its checkpoint")
    parser.add_argument("--batches", dest="sizes", type=integer(1), nargs="+", default=[1, 8], help="(%(default)s)")
    parser.add_argument("--count", type=integer(1), default=16, help="images a turn (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="turns of each (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
