"""What every data set's preprocessing shares: the folder that it fills (`settings.json` first, the inputs,
`manifest.json` last), and files that cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, TypeVar, Union

from PIL import UnidentifiedImageError

from hrnet.cli import UserError, WorkFailed, first_few
from hrnet.io.files import MAX_FILES, make_folder, temporary_name
from hrnet.io.records import read_record, write_record

MAX_IMAGES = MAX_FILES - 4  # in a folder that also holds settings, info, rejected and manifest
Pixels = TypeVar("Pixels")


class Rejection(NamedTuple):
    reason: str


def check_number(images: int, where: Path) -> None:
    """Refuse more images than ais_bench takes inputs from one folder."""
    if images > MAX_IMAGES:
        hint = f"give LIMIT={MAX_IMAGES}, or share the images out among several data sets"
        what = "more images than ais_bench takes inputs from one folder"
        raise UserError(what, where=where, expected=f"at most {MAX_IMAGES}", found=images, hint=hint)


def start_folder(output: Path, settings: dict[str, Any], inputs: set[str]) -> None:
    """Make `output` ready for files called `inputs`, made by these settings: what was made under others is removed, and
    always the manifest, half-written files of a killed run, and inputs of no image."""
    if re.search(r"\s", str(output)):
        raise UserError("path with a space, which ais_bench and info files cannot have", where=output)
    make_folder(output)
    path = output / "settings.json"
    hint = "give a new or an empty folder"
    half_begun = {temporary_name(path).name}  # by a run that was killed at once
    if not path.exists() and {entry.name for entry in output.iterdir()} - half_begun:
        raise UserError("holds files that preprocessing did not write", where=output, hint=hint)
    equal = path.exists() and read_record(path, "settings", hint).get("settings") == settings
    (output / "manifest.json").unlink(missing_ok=True)  # first: nothing speaks for the folder while it changes
    for entry in os.scandir(output):
        if entry.is_file() and entry.name != path.name and not (equal and entry.name in inputs):
            os.unlink(entry.path)
    if not equal:
        write_record(path, "settings", {"settings": settings})


def read_image(source: Path, decode: Callable[[bytes], Pixels]) -> Union[Pixels, Rejection]:
    """What `decode` makes of a file, or why it is rejected."""
    try:
        data = source.read_bytes()
    except OSError as error:
        return Rejection(error.strerror or str(error))
    if not data:
        return Rejection("empty file")
    # Pillow meets a broken file with almost any exception; none is lost: each ends in rejected.json by its name.
    try:
        return decode(data)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return Rejection("no image that Pillow knows")
    except Exception as error:
        return Rejection(f"{type(error).__name__}: {error}")


def record_rejected(output: Path, rejected: Mapping[str, str], done: int, allowed: int) -> None:
    """Write rejected.json. Raises WorkFailed when more than `allowed` files were rejected, or none is `done`."""
    write_record(output / "rejected.json", "rejected", {"images": rejected})
    if len(rejected) > allowed or not done:
        reasons = first_few(f"{source}: {reason}" for source, reason in rejected.items())
        raise WorkFailed(
            f"{output / 'rejected.json'}: {len(rejected)} of {len(rejected) + done} files rejected ({reasons}),"
            f" {done} done; mend or remove them, or allow them with MAX_REJECTED={len(rejected)}"
        )


def closing_line(output: Path, inputs: int, kept: int, seconds: float) -> str:
    """`wrote 200 inputs to … (182 img/s)`; `kept` of the inputs an earlier run had finished."""
    written = inputs - kept
    return f"wrote {written} inputs to {output} ({written / seconds:.0f} img/s)" + (f", kept {kept}" if kept else "")
