"""The metadata of a TorchScript file, read without torch: the file is a zip archive."""

from __future__ import annotations

import json
import zipfile

from hrnet.cli import UserError
from hrnet.io.files import AnyPath

METADATA = "metadata.json"  # pth2onnx.torchscript's entry: model, config and weights hashes, torch version
PRECISION, SOC_VERSION = "torchscript.precision", "torchscript.soc_version"  # pth2onnx.static's, in the compiled record
HINT = "make torchscript"


def read_metadata(path: AnyPath) -> dict[str, str]:
    """The metadata of a TorchScript file; empty for a file of another tool. Raises UserError for another kind of
    file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            entries = [archive.read(name) for name in names if name.endswith(f"/extra/{METADATA}")]
    except FileNotFoundError:
        raise UserError("no such TorchScript file", where=path, hint=HINT) from None
    except zipfile.BadZipFile:
        raise UserError("not a TorchScript file", where=path, expected="a file of torch.jit.save", hint=HINT) from None
    if not any("/code/" in name for name in names):
        found = "a checkpoint or another zip archive"
        raise UserError("not a TorchScript file", where=path, found=found, hint=f"{HINT} WEIGHTS={path}")
    try:
        metadata: dict[str, str] = json.loads(entries[0]) if entries else {}
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(f"invalid {METADATA} in it", where=path, expected="names and texts", hint=HINT) from None
    return metadata
