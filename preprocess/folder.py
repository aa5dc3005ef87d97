"""The folder that preprocessing fills: `settings.json` first, the inputs, `manifest.json` last."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hrnet import formats
from hrnet.cli import UserError
from hrnet.files import make_folder, temporary_name


def start_folder(output: Path, settings: dict[str, Any], inputs: set[str]) -> None:
    """Make `output` ready for files called `inputs`, made by these settings: what was made under others is removed, and
    always the manifest, half-written files of a killed run, and inputs of no image."""
    if re.search(r"\s", str(output)):
        raise UserError("path with a space, which ais_bench and info files cannot have", where=output)
    make_folder(output)
    path = output / "settings.json"
    mend = "give a new or an empty folder"
    half_begun = {temporary_name(path).name}  # by a run that was killed at once
    if not path.exists() and {entry.name for entry in output.iterdir()} - half_begun:
        raise UserError("holds files that preprocessing did not write", where=output, mend=mend)
    equal = path.exists() and formats.read_record(path, "settings", mend).get("settings") == settings
    (output / "manifest.json").unlink(missing_ok=True)  # first: nothing speaks for the folder while it changes
    for entry in os.scandir(output):
        if entry.is_file() and entry.name != path.name and not (equal and entry.name in inputs):
            os.unlink(entry.path)
    if not equal:
        formats.write_record(path, "settings", {"settings": settings})
