"""The folder that preprocessing fills: `settings.json` first, the inputs, `manifest.json` last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hrnet import formats
from hrnet.cli import UserError
from hrnet.files import make_folder


def start_folder(output: Path, settings: dict[str, Any]) -> None:
    """Make `output` ready for inputs of these settings: what was made under others is removed, the manifest always."""
    make_folder(output)
    path = output / "settings.json"
    if not path.exists() and any(output.iterdir()):
        mend = "give a new or an empty folder"
        raise UserError("holds files that preprocessing did not write", where=output, mend=mend)
    (output / "manifest.json").unlink(missing_ok=True)
    if path.exists() and formats.read_record(path, "settings")["settings"] == settings:
        return
    for entry in os.scandir(output):
        if entry.is_file() and entry.name != path.name:
            os.unlink(entry.path)
    formats.write_record(path, "settings", {"settings": settings})
