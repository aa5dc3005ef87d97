"""Measure the time and memory for finding the images of a large data set, in each classification layout.

    python -m benchmarks.index --images 100000 1000000

Creates data sets with these numbers of images in a temporary directory. Images are hard links to empty files: in val/
with val_label.txt, in 1,000 class directories, and in class directories with val_list.txt; or they are in tar files of
10,000 images, each with a label. Each data set is read by two processes, one after the other: the first one only finds
the images, the second one also hashes their sizes and modification times, as preprocessing does. Prints elapsed
seconds, CPU seconds and bytes of memory per image.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

from hrnet.cli import WorkFailed, command, integer
from hrnet.datasets import find_images

CLASSES, TAR_IMAGES = 1000, 10_000
MOST_LINKS = 60_000  # of one file; ext4 allows 65,000


def links(root: Path, names: Iterator[str]) -> None:
    """Create empty files, hard links to a few inodes."""
    for number, name in enumerate(names):
        if number % MOST_LINKS == 0:
            source = root / f".empty{number}"
            source.touch()
        os.link(source, root / name)


def flat(root: Path, count: int) -> None:
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(count)]
    (root / "val").mkdir()
    links(root, (f"val/{name}" for name in names))
    lines = (f"{name} {number % CLASSES}\n" for number, name in enumerate(names))
    (root / "val_label.txt").write_text("".join(lines), encoding="utf-8")


def class_folders(root: Path, count: int) -> None:
    for label in range(CLASSES):
        (root / f"val/n{label:08d}").mkdir(parents=True)
    links(root, (f"val/n{number % CLASSES:08d}/ILSVRC2012_val_{number:08d}.JPEG" for number in range(count)))


def listed_folders(root: Path, count: int) -> None:
    class_folders(root, count)
    names = (f"val/n{number % CLASSES:08d}/ILSVRC2012_val_{number:08d}.JPEG" for number in range(count))
    lines = (f"{name} {number % CLASSES}\n" for number, name in enumerate(names))
    (root / "val_list.txt").write_text("".join(lines), encoding="utf-8")


def tars(root: Path, count: int) -> None:
    for start in range(0, count, TAR_IMAGES):
        with tarfile.open(root / f"val-{start // TAR_IMAGES:05d}.tar", "w") as archive:
            for number in range(start, min(start + TAR_IMAGES, count)):
                for ending, data in (("cls", b"%d" % (number % CLASSES)), ("jpg", b"")):
                    info = tarfile.TarInfo(f"{number:08d}.{ending}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
                archive.members.clear()  # type: ignore[attr-defined]


LAYOUTS: dict[str, Callable[[Path, int], None]] = {
    "val_label.txt": flat,
    "class directories": class_folders,
    "val_list.txt": listed_folders,
    "tar files": tars,
}


def measure(root: Path, hashed: bool) -> tuple[float, float, int]:
    """Elapsed and CPU seconds of finding the images, and the increase of the peak memory in bytes."""
    before, started, cpu = peak_memory(), time.perf_counter(), cpu_seconds()
    dataset = find_images(root, CLASSES)
    if hashed:
        dataset.sha256()
    return time.perf_counter() - started, cpu_seconds() - cpu, peak_memory() - before


def cpu_seconds() -> float:
    """CPU seconds of this process and its workers, which read tar files on all cores."""
    return sum(os.times()[:4])


def peak_memory() -> int:
    """The peak memory of this process, bytes. The value of getrusage would include the parent's peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def measure_in_process(root: Path, hashed: bool) -> list[float]:
    words = [sys.executable, "-m", "benchmarks.index", "--measure", str(root), *(["--hashed"] if hashed else [])]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise WorkFailed(done.stderr.strip(), where=root)
    return list(map(float, done.stdout.split()))


def run(images: list[int], layouts: list[str]) -> None:
    """Print a line for each layout and number of images."""
    print(f"{'':16}{'images':>10}{'s':>8}{'CPU s':>8}{'B/image':>9}{'with the hash: s':>19}{'CPU s':>8}")
    for name in layouts:
        for count in images:
            with tempfile.TemporaryDirectory() as scratch:
                LAYOUTS[name](Path(scratch), count)
                seconds, cpu, memory = measure_in_process(Path(scratch), hashed=False)
                hash_seconds, hash_cpu, _ = measure_in_process(Path(scratch), hashed=True)
            figures = f"{seconds:8.1f}{cpu:8.1f}{memory / count:9.0f}{hash_seconds:19.1f}{hash_cpu:8.1f}"
            print(f"{name:16}{count:10,}{figures}", flush=True)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__.splitlines()[0])
    text = f"numbers of images, at least one for each of {CLASSES} classes (%(default)s)"
    parser.add_argument("--images", type=integer(CLASSES), nargs="+", default=[100_000, 1_000_000], help=text)
    parser.add_argument("--layouts", choices=LAYOUTS, nargs="+", default=list(LAYOUTS), help="default: all")
    parser.add_argument("--measure", type=Path, help="measure only this data set, in this process")
    parser.add_argument("--hashed", action="store_true", help="with --measure: also hash sizes and modification times")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    if args.measure:
        print(*measure(args.measure, args.hashed))
    else:
        run(args.images, args.layouts)


if __name__ == "__main__":
    sys.exit(main())
