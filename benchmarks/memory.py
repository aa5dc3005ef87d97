"""Measure the memory of the stages for two numbers of images; it must not grow with the number of images.

    python -m benchmarks.memory --dataset data/imagenet --model build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --cfg configs/hrnet_w18.yaml --copies 1 10

Each image is linked `copies` times. The resident memory of all processes of a stage is measured every 20 ms, and the
largest sum is printed. Shared pages count for each process, so the sum is too large rather than too small; only a peak
of a few milliseconds may be missed. With --onnx, `make quantize` is measured too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

from benchmarks.preprocess_peer import link_copies
from hrnet.cli import WorkFailed, command, integer
from hrnet.config import add_cfg_argument
from hrnet.io.files import make_folder

SAMPLE_SECONDS = 0.02
SESSION, PAGES = 3, 21  # fields of /proc/<pid>/stat after the program's name


def resident(session: int) -> int:
    """Resident memory of the processes of a session, bytes."""
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
                fields = Path(entry.path, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                pages += int(fields[PAGES]) if int(fields[SESSION]) == session else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_of(words: list[object]) -> int:
    """Run `python <words>`; return the peak memory of the process and its children together, bytes."""
    call = [sys.executable, *map(str, words)]
    peak = 0
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, start_new_session=True) as stage:
        while stage.poll() is None:
            peak = max(peak, resident(stage.pid))
            time.sleep(SAMPLE_SECONDS)
    if stage.returncode:
        raise WorkFailed("stage failed", where=" ".join(call), found=f"exit {stage.returncode}")
    return peak


def peaks(
    dataset: Path, cfg: Path, model: Path, copies: int, onnx: Optional[Path], calib: int
) -> tuple[int, dict[str, int]]:
    """The number of images, and the peak memory of each stage in bytes; with `onnx` also of its quantization."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, common = Path(scratch), ["--cfg", cfg]
        count = link_copies(dataset, folder / "images", copies)
        inputs, output = folder / "prep", make_folder(folder / "out") / "run"
        products = ["--manifest", inputs / "manifest.json", "--run", f"{output}_run.json"]
        stages: dict[str, list[object]] = {
            "preprocess": [*_module("preprocess"), *common, "--dataset", folder / "images", "--output", inputs],
            "infer": ["-m", "infer.run", "--model", model, "--inputs", inputs, "--output", output],
            "eval": [*_module("postprocess"), *common, *products, "--output", folder / "metrics.json"],
        }
        if onnx:
            words = ["--dataset", folder / "images", "--output", folder / "calibration", "--calibration", calib]
            int8 = folder / "int8/model_deploy_model.onnx"
            stages["calibration"] = [*_module("preprocess"), *common, *words]
            stages["quantize"] = ["-m", "amct.quantize", "--model", onnx, "--inputs", words[3], "--output", int8]
        return count, {name: peak_of(words) for name, words in stages.items()}


def _module(stage: str) -> list[str]:
    return ["-m", f"{stage}.classification"]


def run(dataset: Path, cfg: Path, model: Path, copies: list[int], onnx: Optional[Path], calib: int) -> None:
    """Print the peak memory of each stage for each number of images."""
    measured = [peaks(dataset, cfg, model, each, onnx, calib) for each in copies]
    print(f"{'peak memory, MiB':16}" + "".join(f"{count:>10} images" for count, _ in measured))
    for name in measured[0][1]:
        print(f"{name:16}" + "".join(f"{stages[name] / 2**20:>17.0f}" for _, stages in measured))


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet directory")
    add_cfg_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="model compiled by the emulator of atc")
    parser.add_argument("--onnx", type=Path, help="also measure make quantize of this ONNX file")
    parser.add_argument("--calib", type=integer(1), default=64, help="number of calibration images (%(default)s)")
    parser.add_argument(
        "--copies", type=integer(1), nargs="+", default=[1, 10], help="numbers of copies of each image (%(default)s)"
    )
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.dataset, args.cfg, args.model, args.copies, args.onnx, args.calib)


if __name__ == "__main__":
    sys.exit(main())
