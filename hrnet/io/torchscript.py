"""Read the metadata of a TorchScript file without torch. The file is a zip archive; its CRCs are checked too."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from hrnet.cli import UserError
from hrnet.io.files import AnyPath
from hrnet.io.recognise import DOWNLOAD_AGAIN, TORCHSCRIPT, WEIGHTS, recognise

METADATA = "metadata.json"  # written by pth2onnx.torchscript: model, config and weights hashes, torch version
PRECISION, SOC_VERSION = "torchscript.precision", "torchscript.soc_version"  # keys in the compiled record
HINT = "make torchscript"


def read_metadata(path: AnyPath) -> dict[str, str]:
    """The metadata of a TorchScript file; empty for a file from another tool. Raises UserError for another kind of file
    and for a damaged file."""
    if not Path(path).exists():
        raise UserError("no such TorchScript file", where=path, hint=HINT)
    name, hint = recognise(path) or ("unknown content", HINT)
    if name != TORCHSCRIPT:
        hint = f"{HINT} WEIGHTS={path}" if name in WEIGHTS else hint
        raise UserError("not a TorchScript file", where=path, found=name, hint=hint)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            entries = [archive.read(name) for name in archive.namelist() if name.endswith(f"/extra/{METADATA}")]
    except OSError:
        raise
    except Exception as error:  # a damaged archive makes zipfile raise exceptions of many types
        damaged = str(error)
    if damaged:
        raise UserError(
            "damaged TorchScript file", where=path, found=f"wrong CRC or header: {damaged}", hint=DOWNLOAD_AGAIN
        )
    try:
        metadata: dict[str, str] = json.loads(entries[0]) if entries else {}
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(
            f"invalid {METADATA}", where=path, expected="a JSON object with text values", hint=HINT
        ) from None
    return metadata
