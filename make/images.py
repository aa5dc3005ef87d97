"""Count the images of a data set and choose the number of parts; standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.cli import UserError
from hrnet.tar_files import find_tars
from make.call import OptionError, Options, note

MAX_IMAGES = 99_996  # inputs that ais_bench accepts in a directory that also has the four records of preprocessing
PART_IMAGES = 20_000  # per part if SHARDS is not given: 12 GB of float32 inputs at 224 x 224
MAX_PARTS = 64  # for tar files if SHARDS is not given: each part reads the headers of all files
LEAST_ENTRY = 40  # bytes: a lower limit for an image's entry in a COCO annotation file


def count_classified(dataset: Path) -> int:
    """Number of labels in a data set's list, or of files in its class directories; 0 if it has neither."""
    for name in ("val_label.txt", "val_list.txt"):
        if (dataset / name).is_file():
            return count_lines(dataset / name)
    folders = (
        [entry.path for entry in os.scandir(dataset / "val") if entry.is_dir()] if (dataset / "val").is_dir() else []
    )
    return sum(len(os.listdir(folder)) for folder in folders)


def count_tars(dataset: Path) -> int:
    """Number of tar files of a data set; 0 for other layouts and for data sets that preprocessing rejects."""
    try:
        return len(find_tars(dataset)[1])
    except UserError:
        return 0


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def count_coco(annotations: Path, enough: int) -> int:
    """Number of images in an annotation file; 0 if it is missing, or too small for more than `enough` images."""
    if not annotations.is_file() or annotations.stat().st_size <= enough * LEAST_ENTRY:
        return 0
    return annotations.read_bytes().count(b'"file_name"')


def count_images(options: Options, enough: int) -> int:
    if options.pose:
        return count_coco(options.annotations, enough)
    return count_classified(Path(options["DATASET"]))


def set_shards(options: Options) -> None:
    """Set SHARDS if not given, from the number of images, tar files and devices; check SHARD. Raises OptionError."""
    limit, devices = int(options["LIMIT"]), options["DEVICE"].split(",")
    if options["SHARD"]:
        number, count = options["SHARD"].split("/")
        if int(number) > int(count):
            raise options.error("SHARD", f"expected a part from 1/{count} to {count}/{count}")
        if "SHARDS" in options.given and options["SHARDS"] != count:
            raise options.error("SHARD", f"contradicts SHARDS={options['SHARDS']}")
        options.values["SHARDS"] = count
    elif "part" in options.goals:
        raise OptionError("make part: no SHARD", "give SHARD=<part>/<number of parts>, such as SHARD=3/16")
    asked, evaluating = options["SHARDS"], options.goals & {"eval", "gate", "show"}
    if "family" in options.goals and options["DATASET"]:
        evaluating = {"family"}
    for goal in sorted(options.goals & {"merge", "cluster"}) if not asked else ():
        raise OptionError(f"make {goal}: no SHARDS", "give SHARDS=<number of parts>")
    if not asked and evaluating and not options["PREP"]:
        counted = count_images(options, MAX_IMAGES)
        needed = -(-min(counted, limit or counted) // PART_IMAGES) if min(counted, limit or counted) > MAX_IMAGES else 1
        why = f"more than {MAX_IMAGES} images" if needed > 1 else f"DEVICE={options['DEVICE']}"
        if not options.pose and not 0 < limit <= MAX_IMAGES:  # a smaller LIMIT needs no parts
            tars = count_tars(Path(options["DATASET"]))
            needed, why = max(needed, min(tars, MAX_PARTS)), f"{tars} tar files" if tars > 1 else why
        options.values["SHARDS"] = str(max(needed, len(devices)))
        if options["SHARDS"] != "1":
            note(f"SHARDS={options['SHARDS']}: computing in parts ({why})")
    shards = options.values["SHARDS"] = options["SHARDS"] or "1"
    if len(devices) > int(shards) and evaluating | (options.goals & {"infer"}) and not options["SHARD"]:
        hint = f"give SHARDS={len(devices)} or more" if evaluating else f"use make eval, or DEVICE={devices[0]}"
        hint = f"give DEVICE={devices[0]}, since PREP={options['PREP']} is not divided" if options["PREP"] else hint
        raise options.error("DEVICE", "each device needs a part", hint)
    whole = sorted(options.goals & {"preprocess", "infer", "reference", "qps"})
    if shards != "1" and "compare" in options.goals:
        why = "make compare needs all inputs and outputs in one directory"
        raise options.error("SHARDS", why, "give SHARDS=1 LIMIT=1000")
    if shards != "1" and whole:
        raise options.error("SHARDS", f"make {whole[0]} does not compute parts", "use make eval, or give SHARDS=1")
    if shards != "1" and options["PREP"]:
        raise options.error("PREP", "contains the inputs of the whole data set", f"give SHARDS=1 instead of {shards}")


def reject_chunk(options: Options) -> None:
    """Reject the variable CHUNK of an older release, whether it is given or remembered."""
    chunk = options.values.pop("CHUNK", "0")
    options.given.discard("CHUNK")
    if chunk not in ("", "0"):
        counted = count_images(options, 0) if chunk.isdigit() else 0
        shards = -(-counted // int(chunk)) if counted else "<number of parts>"
        remembered = options.settings / "CHUNK.mk"
        forget = f" (remembered: rm {remembered})" if remembered.is_file() else ""
        raise OptionError(f"CHUNK={chunk}: no longer supported", f"give SHARDS={shards} instead{forget}")
