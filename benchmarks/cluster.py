"""Measure the extra time of make cluster for each part, compared with make part, and the time to merge many parts.

    python -m benchmarks.cluster --images 256 --shards 8 64 --merge 10000

For each number of parts it runs `make part` for one part after the other, then `make cluster` on a Ray cluster of this
machine, which computes one part at a time too. Both use the same model and images (hard links to the demo's digits).
The difference is the start-up time plus a time for each part; two numbers of parts give both. For the merge, one
computed part is copied many times, with other part numbers and image names.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

from benchmarks.shards import write_links
from hrnet.cli import WorkFailed, command, integer
from hrnet.io.files import make_folder, sha256_file, write_text
from hrnet.io.parts import Part, predictions_path
from hrnet.shards import Shard

MODEL = ["MODEL=demo_digits", "WEIGHTS=weights/demo_digits.pth", "BACKEND=onnxruntime", "REFERENCE=config"]
RESULT = Path("demo_digits/eval/set-float32/onnxruntime-bs16-fp32")


def timed(words: list[str]) -> float:
    """Seconds of a command. Raises WorkFailed if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    begun = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seconds = time.perf_counter() - begun
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise WorkFailed("failed, see above", where=" ".join(words[:3]), found=f"exit {done.returncode}")
    return seconds


def measure_parts(build: Path, scratch: Path, dataset: Path, shards: int) -> tuple[float, float]:
    """Seconds of all calls of `make part`, and of `make cluster` without the merge. The parts remain in `scratch`."""
    given = [*MODEL, f"DATASET={dataset}", f"PYTHON={sys.executable}", "GATE=none"]
    places = {name: scratch / name for name in ("alone", "cluster")}
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
        timed(["make", "om", *given, f"BUILD={place}", f"ONNX={build}/demo_digits/model.onnx"])
    alone, ray = ([*given, f"BUILD={place}"] for place in places.values())
    seconds = sum(timed(["make", "part", f"SHARD={number}/{shards}", *alone]) for number in range(1, shards + 1))
    merge = timed(["make", "merge", f"SHARDS={shards}", *alone])
    whole = timed(["make", "cluster", f"SHARDS={shards}", *ray])
    one, other = (place / RESULT / "predictions.jsonl" for place in places.values())
    if one.read_bytes() != other.read_bytes():
        raise WorkFailed("results differ", where=other, expected=one)
    return seconds, whole - merge


def write_copies(record: Path, parts: Path, count: int, images: int) -> None:
    """Write `count` parts of `images` images each, from a computed part with at least as many images."""
    part = Part.read(record)
    lines = [json.loads(line) for line in predictions_path(record).read_text(encoding="utf-8").splitlines()[:images]]
    make_folder(parts)
    for number in range(1, count + 1):
        path = parts / f"{Shard(number, count).name}.json"
        named = [{**line, "source": f"val/{number:06d}_{place}.JPEG"} for place, line in enumerate(lines)]
        write_text(predictions_path(path), "".join(f"{json.dumps(line)}\n" for line in named))
        facts = {"listed": count * images, "images": images, "predictions_sha256": sha256_file(predictions_path(path))}
        dataclasses.replace(part, shard=[number, count], **facts).write(path)  # type: ignore[arg-type]


def measure_merge(record: Path, scratch: Path, count: int, images: int) -> float:
    """Seconds of postprocess.merge over `count` copies of a computed part."""
    write_copies(record, scratch / "parts", count, images)
    words = [sys.executable, "-m", "postprocess.merge", "--cfg", "configs/demo_digits.yaml", "--shards", str(count)]
    return timed([*words, "--parts", str(scratch / "parts"), "--output", str(scratch / "merged.json")])


def run(images: int, shards: list[int], repeat: int, merge: int, part_images: int, digits: Path) -> None:
    with tempfile.TemporaryDirectory(dir=digits.parent) as folder:
        scratch, build = Path(folder), Path(folder, "build")
        dataset = write_links(scratch / "set", digits, images)
        timed(["make", "onnx", *MODEL, f"PYTHON={sys.executable}", f"BUILD={build}"])
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
        print(f"load of this machine: {load}; {images} images of 64 x 64 pixels")
        over: dict[int, float] = {}
        rounds = [{count: measure_parts(build, scratch, dataset, count) for count in shards} for _ in range(repeat)]
        for count in shards:
            alone, cluster = (statistics.median(values) for values in zip(*(each[count] for each in rounds)))
            over[count] = cluster - alone
            figures = f"make part alone {alone:.1f} s, make cluster without its merge {cluster:.1f} s"
            print(f"{count} parts: {figures}, {over[count] / count:.2f} s more for each part, start-up included")
        if len(over) > 1:
            few, many = min(over), max(over)
            slope = (over[many] - over[few]) / (many - few)
            print(f"start-up {over[few] - few * slope:.1f} s, then {slope:.2f} s for each part")
        record = scratch / "alone" / RESULT / f"parts/1-of-{shards[-1]}.json"
        seconds = measure_merge(record, scratch, merge, part_images)
        print(f"merge of {merge} parts of {part_images} images: {seconds:.1f} s")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=integer(1), default=256, help="images of the data set (%(default)s)")
    parser.add_argument("--shards", type=integer(1), nargs="+", default=[8, 64], help="numbers of parts (%(default)s)")
    parser.add_argument("--repeat", type=integer(1), default=3, help="measurements, of which the median is printed")
    parser.add_argument("--merge", type=integer(1), default=10_000, help="parts to merge (%(default)s)")
    parser.add_argument("--part_images", type=integer(1), default=4, help="images of each of them (%(default)s)")
    parser.add_argument("--digits", type=Path, default=Path("data/digits"), help="output of data.digits (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
