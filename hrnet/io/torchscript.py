"""What a TorchScript file tells about itself, read without torch: it is a zip archive."""

from __future__ import annotations

import json
import zipfile

from hrnet.cli import UserError
from hrnet.io.files import AnyPath

METADATA = "metadata.json"  # pth2onnx.torchscript's entry: model, config and weights hashes, torch version
PRECISION, SOC_VERSION = "torchscript.precision", "torchscript.soc_version"  # pth2onnx.static's, in the compiled record
HINT = "make torchscript"


def read_metadata(path: AnyPath) -> dict[str, str]:
    """The metadata of a TorchScript file; empty where another tool wrote it. Raises UserError where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            told = [archive.read(name) for name in names if name.endswith(f"/extra/{METADATA}")]
    except FileNotFoundError:
        raise UserError("no such TorchScript file", where=path, hint=f"run {HINT}") from None
    except zipfile.BadZipFile:
        expected = "what torch.jit.save writes"
        raise UserError("is no TorchScript file", where=path, expected=expected, hint=f"run {HINT}") from None
    if not any("/code/" in name for name in names):
        what = "is a checkpoint or another archive, and no TorchScript file"
        raise UserError(what, where=path, hint=f"if it is a checkpoint: {HINT} WEIGHTS={path}")
    try:
        metadata: dict[str, str] = json.loads(told[0]) if told else {}
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(f"holds a {METADATA} that is not ours", where=path, hint=f"run {HINT}") from None
    return metadata
