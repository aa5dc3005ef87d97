"""Memory of the stages that go through all images, at two numbers of images: it must not grow with them.

    python -m benchmarks.memory --dataset data/imagenet --model build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --cfg configs/hrnet_w18.yaml --copies 1 10

The photographs are linked `copies` times over. What is told is the peak of the resident memory of a stage's processes
together, sampled: pages that several of them share count for each, so it is an upper bound.
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

from benchmarks.preprocess_peer import copies_of
from hrnet.cli import WorkFailed, command, integer
from hrnet.io.files import make_folder

SAMPLE_SECONDS = 0.02
SESSION, PAGES = 3, 21  # places in /proc/<pid>/stat behind the program's name: its session, its resident pages


def resident(session: int) -> int:
    """Bytes that the processes of a session have in memory now."""
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                fields = Path(entry.path, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                pages += int(fields[PAGES]) if int(fields[SESSION]) == session else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_of(words: list[object]) -> int:
    """Run `python <words>`; the most bytes that it and its children had in memory together."""
    call = [sys.executable, *map(str, words)]
    peak = 0
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, start_new_session=True) as stage:
        while stage.poll() is None:
            peak = max(peak, resident(stage.pid))
            time.sleep(SAMPLE_SECONDS)
    if stage.returncode:
        raise WorkFailed(f"exit {stage.returncode} of {' '.join(call)}")
    return peak


def peaks(dataset: Path, cfg: Path, model: Path, copies: int) -> tuple[int, dict[str, int]]:
    """The number of images, and the peak of each stage on them."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        count = copies_of(dataset, place / "images", copies)
        prep, out = place / "prep", make_folder(place / "out")
        manifest, run, metrics = prep / "manifest.json", out / "run_run.json", place / "metrics.json"
        stages: dict[str, list[object]] = {
            "preprocess": ["-m", "preprocess.classification", cfg, place / "images", prep],
            "infer": ["-m", "infer.run", "--model", model, "--input", prep, "--output", out, "--output_dirname", "run"],
            "eval": [
                *["-m", "postprocess.classification", "--cfg"],
                cfg,
                "--manifest",
                manifest,
                "--run",
                run,
                "--output",
                metrics,
            ],
        }
        return count, {name: peak_of(words) for name, words in stages.items()}


def run(dataset: Path, cfg: Path, model: Path, copies: list[int]) -> None:
    """Print MiB of each stage at each number of images."""
    measured = [peaks(dataset, cfg, model, each) for each in copies]
    print(f"{'MiB at the peak':16}" + "".join(f"{count:>10} images" for count, _ in measured))
    for name in measured[0][1]:
        print(f"{name:16}" + "".join(f"{stages[name] / 2**20:>17.0f}" for _, stages in measured))


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="ImageNet folder")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config")
    parser.add_argument("--model", type=Path, required=True, help="compiled by atc's twin, its record beside it")
    parser.add_argument(
        "--copies", type=integer(1), nargs="+", default=[1, 10], help="of each photograph, in turn (%(default)s)"
    )
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.dataset, args.cfg, args.model, args.copies)


if __name__ == "__main__":
    sys.exit(main())
