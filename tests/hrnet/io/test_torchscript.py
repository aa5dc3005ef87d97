"""hrnet/io/torchscript.py: metadata without torch, and what is no TorchScript file."""

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


def test_metadata_as_it_was_written(tmp_path: Path) -> None:
    told = archive(tmp_path / "m.ts", **CODE, **{"extra/metadata.json": '{"model": "hrnet_w18"}'})
    assert read_metadata(told) == {"model": "hrnet_w18"}


def test_a_file_from_elsewhere_tells_nothing(tmp_path: Path) -> None:
    assert read_metadata(archive(tmp_path / "hrnet.pt", **CODE)) == {}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_metadata(path)
    return str(refused.value)


def test_what_is_none(tmp_path: Path) -> None:
    checkpoint = archive(tmp_path / "w.pth", **{"data.pkl": ""})
    expected = "is a checkpoint or another archive, and no TorchScript file; if it is a checkpoint: make torchscript"
    assert refusal(checkpoint) == f"{checkpoint}: {expected} WEIGHTS={checkpoint}"
    text = tmp_path / "x.ts"
    text.write_text("text")
    expected = "is no TorchScript file (expected what torch.jit.save writes); run make torchscript"
    assert refusal(text) == f"{text}: {expected}"
    none = tmp_path / "none.ts"
    assert refusal(none) == f"{none}: no such TorchScript file; run make torchscript"


@pytest.mark.parametrize("text", ["[1]", "{", '{"model": 1}'])
def test_metadata_that_is_not_ours(tmp_path: Path, text: str) -> None:
    path = archive(tmp_path / "m.ts", **CODE, **{"extra/metadata.json": text})
    assert refusal(path) == f"{path}: holds a metadata.json that is not ours; run make torchscript"
