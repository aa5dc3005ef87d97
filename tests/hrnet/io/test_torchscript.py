"""hrnet/io/torchscript.py: metadata without torch, and other kinds of files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from hrnet.cli import UserError
from hrnet.io.torchscript import read_metadata


def archive(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in entries.items():
            file.writestr(f"archive/{name}", text)
    return path


CODE = {"code/__torch__/net.py": "", "data.pkl": ""}


def test_metadata_is_read_as_written(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.ts", **CODE, **{"extra/metadata.json": '{"model": "hrnet_w18"}'})
    assert read_metadata(path) == {"model": "hrnet_w18"}


def test_a_file_of_another_tool_has_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(archive(tmp_path / "hrnet.pt", **CODE)) == {}


def error_of(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_metadata(path)
    assert caught.value.where == path
    return caught.value


def test_other_kinds_of_files_are_rejected(tmp_path: Path) -> None:
    checkpoint = archive(tmp_path / "w.pth", **{"data.pkl": ""})
    assert error_of(checkpoint).hint == f"make torchscript WEIGHTS={checkpoint}"
    text = tmp_path / "x.ts"
    text.write_text("text")
    assert error_of(text).what == "not a TorchScript file"
    assert error_of(tmp_path / "none.ts").what == "no such TorchScript file"
    text.write_text("<html>")
    assert error_of(text).found == "an HTML page"


def test_a_flipped_byte_is_rejected(tmp_path: Path) -> None:
    """torch.jit.load does not check the CRCs."""
    path = archive(tmp_path / "m.ts", **{**CODE, "constants/0": "weights"})
    path.write_bytes(path.read_bytes().replace(b"weights", b"weighs!", 1))
    error = error_of(path)
    assert "damaged" in error.what and "archive/constants/0" in str(error.found)


@pytest.mark.parametrize("text", ["[1]", "{", '{"model": 1}'])
def test_invalid_metadata_is_rejected(tmp_path: Path, text: str) -> None:
    assert "metadata.json" in error_of(archive(tmp_path / "m.ts", **CODE, **{"extra/metadata.json": text})).what
