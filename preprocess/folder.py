"""Shared by preprocess.classification and preprocess.pose: arguments, reading of images, and the output directory.
`settings.json` is written first, then the inputs, and `manifest.json` last; a rerun keeps the finished inputs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, TypeVar, Union

import PIL
import simplejpeg
from PIL import UnidentifiedImageError
from yacs.config import CfgNode

from hrnet import calibration
from hrnet.cli import UserError, WorkFailed, cores, first_few, integer, plural
from hrnet.config import config_sha256
from hrnet.io import tensor_names
from hrnet.io.files import IMAGES, MAX_FILES, check_free_disk, locked, make_folder, sha256_file, temporary_name
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import read_record, write_record
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.io.summary import write_info
from hrnet.plain_images import find_plain_images, skipped_files
from hrnet.shards import Listing, Shard, select_part, shard
from hrnet.tars import Source
from hrnet.workers import map_files

RECORDS = ("settings.json", "rejected.json", "inputs.info", "manifest.json")  # inputs.info: only for .bin inputs
MAX_IMAGES = MAX_FILES - len(RECORDS)
Pixels = TypeVar("Pixels")
Entry = TypeVar("Entry")  # the data set's entry for one image


class Rejection(NamedTuple):
    reason: str


class Done(NamedTuple):
    width: int  # of the source image, pixels
    height: int
    kept: bool  # already written by an earlier run


class Task(NamedTuple):
    """One image to prepare."""

    image: InputImage  # the manifest entry; width and height are filled in after decoding
    source: Source
    targets: tuple[Path, ...]  # the input and, with --output_flip, the flipped input
    size: int  # bytes of each target

    def missing_bytes(self) -> int:
        """Bytes still to write. Files are renamed when they are complete, so an existing target of this size is
        complete."""
        return sum(self.size for path in self.targets if not (path.exists() and path.stat().st_size == self.size))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both tasks share, except --cfg, --dataset, --images and --output."""
    layouts = "float32: normalised channels; uint8: RGB pixels, for a model compiled with --input_dtype uint8"
    parser.add_argument("--input_dtype", choices=tensor_names.INPUT_LAYOUTS, default="float32", help=layouts)
    parser.add_argument("--limit", type=integer(0), default=0, help="only the first N images in natural order; 0: all")
    text = "number of unreadable or unlabelled images to accept"
    parser.add_argument("--max_rejected", type=integer(0), default=0, help=text)
    parser.add_argument("--shard", type=shard, help="preprocess only one part of the images, such as 3/16")
    text = "prepare only N images to calibrate an int8 model, from the training images if they exist"
    parser.add_argument("--calibration", type=integer(1), metavar="N", help=text)
    parser.add_argument("--workers", type=integer(1), default=cores(), help="number of processes (default: all cores)")


def add_images_argument(parser: argparse.ArgumentParser, dataset: str, default: Optional[Path] = None) -> None:
    """Add --dataset, with the help text `dataset`, and --images, which excludes it."""
    group = parser.add_mutually_exclusive_group(required=default is None)
    group.add_argument("--dataset", type=Path, default=default, help=dataset)
    group.add_argument(
        "--images", nargs="+", metavar="PATH", help="images without labels: files, or directories of files"
    )


def empty_manifest(dataset: str, config: CfgNode, index_sha256: str, dtype: str, suffix: str, classes: int) -> Manifest:
    layout = tensor_names.INPUT_LAYOUTS[dtype]
    return Manifest(dataset, config_sha256(config), index_sha256, dtype, layout, suffix, classes, rejected=0, images=[])


def choose_images(
    images: Mapping[str, Entry], args: argparse.Namespace, ends: Sequence[int] = ()
) -> tuple[dict[str, Entry], Listing]:
    """Select the images of --shard (default: all), at most --limit. Also returns the facts about the whole list.

    Raises UserError if ais_bench would reject this number of inputs in one directory.
    """
    part = args.shard or Shard(1, 1)
    chosen, listing = select_part(images, part, args.limit, ends, args.dataset)
    hint = f"make eval SHARDS={part.count * -(-len(chosen) // MAX_IMAGES)}, or LIMIT={MAX_IMAGES}"
    check_count(len(chosen), args.dataset, hint)
    return chosen, listing


def choose_calibration(images: Mapping[str, Entry], count: int, where: object) -> dict[str, Entry]:
    """The images that calibrate an int8 model. If there are fewer than `count`, all are used, and a line is printed."""
    if len(images) < count:
        print(f"{where}: only {plural(len(images), 'image')} for calibration; {count} were requested (CALIB)")
    chosen = calibration.choose(images, count)
    return {source: entry for source, entry in images.items() if source in chosen}


def check_count(images: int, where: object, hint: str) -> None:
    """Raise UserError if ais_bench would reject this number of inputs in one directory."""
    if images > MAX_IMAGES:
        what = "too many images for one directory of ais_bench"
        raise UserError(what, where=where, expected=f"at most {MAX_IMAGES}", found=images, hint=hint)


def choose_plain_images(args: argparse.Namespace) -> list[str]:
    """The images of --images. Raises UserError for options that choose images of a data set."""
    if args.shard or args.limit or args.calibration:
        raise UserError("--shard, --limit and --calibration need --dataset")
    sources = find_plain_images(args.images)
    if skipped := skipped_files(args.images):
        names = ", ".join(f"*{suffix}" for suffix in IMAGES)
        print(
            f"{plural(len(skipped), 'file is', 'files are')} skipped, not {names}: {first_few(skipped, 10)}",
            file=sys.stderr,
        )
    check_count(len(sources), "--images", "give fewer images")
    return sources


def add_listing(manifest: Manifest, part: Optional[Shard], listing: Listing, available: int) -> Manifest:
    """Add to the manifest: for a part, the length and hash of the whole list; for a subset, the number of available
    images."""
    if listing.images < available:
        manifest = dataclasses.replace(manifest, available=available)
    if part is None:
        return manifest
    numbers = [part.number, part.count]
    return dataclasses.replace(manifest, shard=numbers, listed=listing.images, list_sha256=listing.sha256)


def run_tasks(
    module: str,
    args: argparse.Namespace,
    outputs: Sequence[Path],
    manifest: Manifest,
    tasks: Sequence[Task],
    write: Callable[[Task], Union[Done, Rejection]],
    code: Iterable[str],
    rejected: Mapping[str, str],
    state: dict[str, Optional[list[int]]],
    decoders: Sequence[str] = (),
    **more_settings: Any,
) -> None:
    """Write the inputs and records of all tasks, or do nothing if they are up to date.

    `outputs`: the output directory and, optionally, the one for flipped inputs; `manifest`: without images; `code`: the
    source files that determine the pixels; `rejected`: {image: reason} for images without a task; `state`: of the data
    set (hrnet.io.stamp.data_state); `decoders`: used in addition to Pillow and simplejpeg. Raises WorkFailed if more
    than `--max_rejected` images are rejected; rejected.json lists the reasons, and the other inputs are kept.
    """
    started = time.perf_counter()
    if args.shard and args.shard.number > 1:
        rejected = {}  # they belong to no part, so only the first part counts them
    settings = {
        "config_sha256": manifest.config_sha256,
        "index_sha256": manifest.index_sha256,
        "decoders": [f"pillow {PIL.__version__}", f"simplejpeg {simplejpeg.__version__}", *decoders],
        "code_sha256": [sha256_file(file) for file in code],
        **more_settings,
        "limit": args.limit,
        "dtype": manifest.dtype,
        "layout": manifest.layout,
    }
    numbers = {"shard": manifest.shard, "available": manifest.available}
    given = {"outputs": list(map(str, outputs)), "rejected": sorted(rejected), **numbers}
    stamp = Stamp.compute([module], {**settings, **given}, {})
    manifests = [output / "manifest.json" for output in outputs]
    with contextlib.ExitStack() as locks:
        for output in outputs:
            make_folder(output.parent)
            locks.enter_context(locked(f"{output}_lock"))
        if all(is_complete(output, stamp, tasks, args.max_rejected) for output in outputs):
            for output in outputs:
                content = read_record(output / "settings.json", "settings")
                if content.get("data") != state:
                    write_record(output / "settings.json", "settings", {"settings": content["settings"], "data": state})
            touch(outputs[0], manifests[::-1], f"rm -r {outputs[0]}")
            return
        for output in outputs:
            flipped = {"flipped": output != outputs[0]} if manifest.suffix == "npy" else {}
            names = {path.name for task in tasks for path in task.targets}
            start_folder(output, {**settings, **flipped}, names, state)
        check_free_disk(outputs[0], sum(task.missing_bytes() for task in tasks))
        results = map_files(write, tasks, args.workers)

        inputs, reasons = [], dict(rejected)
        for task, result in zip(tasks, results):
            if isinstance(result, Rejection):
                reasons[task.image.source] = result.reason
                for target in task.targets:
                    target.unlink(missing_ok=True)  # an earlier run may have written it
            else:
                inputs.append(dataclasses.replace(task.image, width=result.width, height=result.height))
        if manifest.suffix == "bin":
            files = ((f"{outputs[0]}/{image.stem}.bin", *image.sides()[::-1]) for image in inputs)
            write_info(outputs[0] / "inputs.info", files)
        for output in outputs:
            write_rejected(output, reasons, len(inputs), args.max_rejected)
        whole = dataclasses.replace(manifest, rejected=len(reasons), images=inputs)
        for output, path in reversed(list(zip(outputs, manifests))):  # outputs[0] last: it marks both as complete
            dataclasses.replace(whole, flipped=output != outputs[0]).write(path)
            write_stamp(output, stamp, [path])
    kept = sum(isinstance(result, Done) and result.kept for result in results)
    written, seconds = len(inputs) - kept, time.perf_counter() - started
    print(closing_line(outputs[0], written, kept, seconds))


def closing_line(output: Path, written: int, kept: int, seconds: float) -> str:
    if not written:
        return f"kept {plural(kept, 'input')} of an earlier run in {output}; none was missing"
    more = f"; kept {kept} of an earlier run" if kept else ""
    return f"wrote {plural(written, 'input')} to {output} ({written / seconds:.0f} images/s){more}"


def is_complete(output: Path, stamp: Stamp, tasks: Sequence[Task], max_rejected: int) -> bool:
    """Whether `output` contains exactly the files of a run with this stamp, with the correct sizes, and at most
    `max_rejected` images were rejected."""
    path = output / "manifest.json"
    if not is_current(output, stamp, [path]):
        return False
    manifest = Manifest.read(path)
    sizes = {task.image.stem: task.size for task in tasks}
    expected = {f"{image.stem}.{manifest.suffix}": sizes[image.stem] for image in manifest.images}
    found = {entry.name: entry.stat().st_size for entry in os.scandir(output) if entry.is_file()}
    records = set(RECORDS) - (set() if manifest.suffix == "bin" else {"inputs.info"})
    present = all(found.pop(name, None) is not None for name in records)
    return present and found == expected and manifest.rejected <= max_rejected


def start_folder(
    output: Path, settings: dict[str, Any], inputs: set[str], state: dict[str, Optional[list[int]]]
) -> None:
    """Prepare the output directory for the files `inputs`. The manifest, incomplete files and files not in `inputs` are
    removed; if the settings have changed, all inputs are removed. Raises UserError for a directory with other files."""
    if re.search(r"\s", str(output)):
        raise UserError("the path contains a space: ais_bench and info files do not support it", where=output)
    make_folder(output)
    path = output / "settings.json"
    hint = f"give an empty directory, or, if make created it: rm -r {output}"
    incomplete = {temporary_name(path).name}  # of a run that was killed at its start
    if not path.exists() and {entry.name for entry in output.iterdir()} - incomplete:
        raise UserError("contains files that preprocessing did not write", where=output, hint=hint)
    before = read_record(path, "settings", hint) if path.exists() else {}
    equal = before.get("settings") == settings
    (output / "manifest.json").unlink(missing_ok=True)  # first: it must not describe files that are being changed
    for entry in os.scandir(output):
        if entry.is_file() and entry.name != path.name and not (equal and entry.name in inputs):
            os.unlink(entry.path)
    if not equal or before.get("data") != state:
        write_record(path, "settings", {"settings": settings, "data": state})


def read_image(source: Source, decode: Callable[[bytes], Pixels]) -> Union[Pixels, Rejection]:
    """Read and decode a file; a Rejection if that fails."""
    try:
        data = source.read_bytes()
    except OSError as error:
        return Rejection(error.strerror or str(error))
    return decode_image(data, decode)


def decode_image(data: bytes, decode: Callable[[bytes], Pixels]) -> Union[Pixels, Rejection]:
    """Decode the bytes of a file; a Rejection if that fails."""
    if not data:
        return Rejection("empty file")
    # Pillow raises many kinds of exceptions for a broken file, so the reason includes the exception's name.
    try:
        return decode(data)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return Rejection("not an image that Pillow can read")
    except Exception as error:
        return Rejection(f"{type(error).__name__}: {error}")


def write_rejected(output: Path, rejected: Mapping[str, str], done: int, allowed: int) -> None:
    """Write rejected.json. Raises WorkFailed if more than `allowed` files were rejected or no input was written."""
    write_record(output / "rejected.json", "rejected", {"images": rejected})
    if len(rejected) > allowed or not done:
        first = {reason: source for source, reason in reversed(list(rejected.items()))}  # one file for each reason
        sources = dict.fromkeys([*reversed(first.values()), *rejected])
        reasons = first_few(f"{source}: {rejected[source]}" for source in sources)
        what = f"{len(rejected)} of {len(rejected) + done} files rejected"
        allow = f"remove them, or allow them with MAX_REJECTED={len(rejected)}"
        hint = f"fix or {allow}" if done else "fix them: no input is left"
        raise WorkFailed(what, where=output / "rejected.json", found=reasons, hint=hint)
