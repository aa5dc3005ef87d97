"""Compare the speed of the emulator's TorchScript runtime with eager torch and with the onnxruntime runtime.

    python -m benchmarks.torchscript --cfg configs/hrnet_w18.yaml --weights build/w18.pth --batches 1 8 --rounds 5

The checkpoint may be from any classification model, for example one of benchmarks.seeded_checkpoint. Both runtimes
compute several requests at the same time, as in the emulator; torch computes one batch after another on all cores, as
users do. All candidates use arrays in memory and run alternately in one process. The run fails if outputs differ from
torch's by more than the tolerance of pth2onnx/parity.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import torch

from atc.emulator import main as atc_emulator
from benchmarks.turns import in_turn, report
from hrnet.cli import WorkFailed, command, cores, integer
from hrnet.config import add_cfg_argument, load_config
from hrnet.nets import checkpoint
from hrnet.nets import classification as nets
from hrnet.schemas import CLASSIFICATION
from infer import runtimes
from infer.emulator.pipeline import default_requests, run_batches
from infer.runtimes.base import Runtime
from pth2onnx import classification, static, torchscript
from pth2onnx.parity import TOLERANCE, images_like, outputs_of

PEER = "torch eager"


def eager(net: torch.nn.Module, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of each batch, computed with all cores."""
    torch.set_num_threads(cores())  # a runtime may have changed it
    return [outputs_of(net, batch)[0] for batch in batches]


def channels_last(net: torch.nn.Module, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of each batch, for a network and images in channels-last layout."""
    return eager(lambda image: net(image.contiguous(memory_format=torch.channels_last)), batches)  # type: ignore[arg-type]


def side_by_side(runtime: Runtime, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of each batch, computed like in the emulator's pipeline."""
    logits: dict[int, np.ndarray] = {}
    run_batches(
        runtime, range(len(batches)), lambda: batches.__getitem__, lambda i, outputs: logits.update({i: outputs[0]})
    )
    return [logits[i] for i in range(len(batches))]


def difference(name: str, found: np.ndarray, expected: np.ndarray, peer: str = "torch") -> float:
    """The largest difference of a logit from the peer's. Raises WorkFailed if it exceeds the tolerance of
    pth2onnx/parity.py."""
    largest, allowed = float(np.abs(found - expected).max()), TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not largest <= allowed:
        limit = f"at most {allowed:.1e}"
        raise WorkFailed(f"logits differ from those of {peer}", where=name, expected=limit, found=f"{largest:.1e}")
    return largest


def compile_both(cfg: Path, weights: Path, folder: Path, batch: int) -> dict[str, Runtime]:
    """Export the checkpoint to ONNX and TorchScript, and compile both for one batch size."""
    shape = [batch, 3, *load_config(cfg, CLASSIFICATION).MODEL.IMAGE_SIZE[::-1]]
    if not (folder / "model.onnx").exists():
        onnx_file = ["--weights", str(weights), "--output", str(folder / "model.onnx")]
        if classification.main(["--cfg", str(cfg), *onnx_file]):
            raise WorkFailed("the export failed, see above")
        torchscript.run(cfg, weights, folder / "model.ts")
    files = {"onnxruntime": folder / f"bs{batch}.onnx", "torchscript": folder / f"bs{batch}.ts"}
    flags = [f"--model={folder / 'model.onnx'}", f"--output={folder / f'bs{batch}'}", "--soc_version=Ascend310P3"]
    if atc_emulator.main(["--framework=5", f"--input_shape=image:{','.join(map(str, shape))}", *flags]):
        raise WorkFailed("the emulator of atc rejected the model, see above")
    where = ["--model", str(folder / "model.ts"), "--output", str(files["torchscript"])]
    if static.main(["--cfg", str(cfg), *where, "--batch_size", str(batch)]):
        raise WorkFailed("pth2onnx.static rejected the TorchScript file, see above")
    return {name: runtimes.load(name, str(file), default_requests()) for name, file in files.items()}


def run(cfg: Path, weights: Path, sizes: list[int], count: int, rounds: int) -> None:
    """Print images/s and ratios for each batch size, over `count` images rounded down to whole batches."""
    config = load_config(cfg, CLASSIFICATION)
    plain, last = nets.build(config).eval(), nets.build(config).eval()
    for net in (plain, last):
        checkpoint.load(net, weights)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            both = compile_both(cfg, weights, Path(folder), size)
            number = max(1, count // size)
            how = (config.MODEL.IMAGE_SIZE, config.INPUT.MEAN, config.INPUT.STD)
            batches = [images_like(size, *how, seed) for seed in range(number)]
            candidates: dict[str, Callable[[], list[np.ndarray]]] = {
                PEER: partial(eager, plain, batches),
                "torch eager, channels last": partial(channels_last, last, batches),
                **{
                    f"emulator, {runtime.version}": partial(side_by_side, runtime, batches) for runtime in both.values()
                },
            }
            expected = np.concatenate(candidates[PEER]())
            print(f"{number * size} images, batch {size}, {cores()} cores, {rounds} rounds, medians")
            for name, candidate in list(candidates.items())[1:]:
                largest = difference(name, np.concatenate(candidate()), expected)
                print(f"{name}: max |difference| of a logit {largest:.1e}")
            report(in_turn(candidates, rounds), number * size, PEER)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torchscript", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--weights", type=Path, required=True, help="the model's checkpoint")
    parser.add_argument(
        "--batches", dest="sizes", type=integer(1), nargs="+", default=[1, 8], help="batch sizes (%(default)s)"
    )
    parser.add_argument("--count", type=integer(1), default=16, help="images in each run (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
