"""hrnet/io/recognise.py: each kind by its content, whatever its name, with a hint that can be pasted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from hrnet.io.recognise import CHECKPOINT, SAFETENSORS, TORCHSCRIPT, recognise
from tests.support.onnx_models import model_of

WEIGHTS = {"conv1.weight": torch.ones(3)}


def saved(zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(WEIGHTS, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def kind_of(folder: Path, content: bytes, name: str = "it's.pth") -> tuple[str, str]:
    path = folder / name
    path.write_bytes(content)
    kind = recognise(path)
    assert kind is not None and "\n" not in kind.name + kind.hint
    return kind


def test_checkpoints_are_recognised(tmp_path: Path) -> None:
    for zipped in (True, False):
        assert kind_of(tmp_path, saved(zipped), "a.safetensors")[0] == CHECKPOINT
    save_file(WEIGHTS, tmp_path / "a.pth")
    found = recognise(tmp_path / "a.pth")
    assert found is not None and found.name == SAFETENSORS


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 85000000\n"


@pytest.mark.parametrize(
    ("content", "name", "hint"),
    [
        (b"", "empty", "download it again"),
        (bytes(5000), "zeros", "not complete"),
        (LFS, "Git LFS pointer to 85000000 bytes", "lfs pull --include"),
        (b"<!DOCTYPE html>\n<title>Sign in", "HTML page", "browser"),
        (b"\xef\xbb\xbf\r\n <HTML lang=zh>" + "登录".encode() * 3000, "HTML page", "browser"),
        (b'<?xml version="1.0"?><!DOCTYPE x><html xmlns="a">', "HTML page", "browser"),
        (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code>', "text that begins with '<?xml", "read it"),
        (b'{"error":"Repository not found"}', 'text that begins with \'{"error"', "read it"),
        (b"404: Not Found", "text that begins with '404: Not Found'", "read it"),
        ("文件不存在\n".encode(), "text that begins with '文件不存在'", "read it"),
        (b"7z\xbc\xaf\x27\x1c\x00", "7z", "unpack"),
        (b"Rar!\x1a\x07", "RAR", "unpack"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "PyTorch"),
        (b"IMOD\x00\x01", "compiled model", "OM="),
        (b"\x80\x04}\x94.", "pickle that torch.save did not write", "torch.save"),
        (b"\x80\x02}q\x00X\x1b\x00\x00\x00StructuredToParameterName@@q\x01}s.", "PaddlePaddle", ""),
        (b"PK\x03\x04" + b"\x14\0" * 90, "damaged zip archive", "download it again"),
    ],
)
def test_kinds_are_recognised_by_their_first_bytes(tmp_path: Path, content: bytes, name: str, hint: str) -> None:
    found = kind_of(tmp_path, content)
    assert name in found[0] and hint in found[1]


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\x01\x02\x03", None), (b"\xff" * 5000, None), (b"PK", "text"), (b"x\x00y", None)]
)
def test_other_content_is_text_or_not_recognised(tmp_path: Path, content: bytes, kind: Any) -> None:
    (tmp_path / "a").write_bytes(content)
    found = recognise(tmp_path / "a")
    assert (found and found.name.split()[0]) == kind


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["it's.pth.gz", "it's.pth", "weights"])
def test_a_packed_file_is_unpacked_by_the_hint(tmp_path: Path, pack: Any, name: str) -> None:
    found = kind_of(tmp_path, pack(saved()), name)
    subprocess.run(found[1], shell=True, check=True)
    target = Path(shlex.split(found[1])[-1])
    assert target.read_bytes() == saved() and target != tmp_path / name and target.suffix == ".pth"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_archive_names_its_checkpoint(tmp_path: Path, mode: str) -> None:
    (tmp_path / "w.pth").write_bytes(saved())
    with tarfile.open(tmp_path / "model_best.pth.tar", mode) as archive:
        archive.add(tmp_path / "w.pth", "weights/w.pth")
    found = recognise(tmp_path / "model_best.pth.tar")
    assert found is not None and "tar archive" in found.name and "weights/w.pth" in found.name
    assert found.hint == f"tar -xf {tmp_path / 'model_best.pth.tar'}, then give WEIGHTS=weights/w.pth"


def test_the_hint_for_an_archive_with_an_onnx_file_has_the_variable_onnx(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("net/model.onnx", b"x")
    found = recognise(tmp_path / "a.zip")
    assert found is not None and found.hint.endswith("a.zip, then give ONNX=net/model.onnx")


def test_a_checkpoint_of_torch_0_1_is_recognised(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    found = recognise(tmp_path / "a.pth")
    assert found is not None and "PyTorch 0.1" in found.name and "torch.load" in found.hint


def test_other_zip_archives_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    np.savez(tmp_path / "a.npz", w=np.ones(3))
    assert "NumPy" in kind_of(tmp_path, (tmp_path / "a.npz").read_bytes())[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("release/w.pth", saved())
    found = recognise(path)
    assert found is not None and found.hint == f"unzip {path}, then give WEIGHTS=release/w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    found = recognise(path)
    assert found is not None and "word/document.xml" in found.name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_models_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert recognise(path) == (TORCHSCRIPT, f"give BACKEND=torchscript TS={path}")
    onnx.save(model_of([onnx.helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {"y": None}), path)
    assert recognise(path) == ("an ONNX file", f"give ONNX={path}")


@pytest.mark.parametrize("inner", ["", "archive"])
def test_an_unpacked_folder_is_packed_by_the_hint(tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(saved())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        top = archive.namelist()[0].split("/")[0]
        archive.extractall(tmp_path)
    folder = tmp_path / "it's"
    os.renames(tmp_path / top, folder / inner)
    found = recognise(folder, python="py")
    assert found is not None and found.name == "an unpacked checkpoint"
    command = shlex.split(found.hint)
    assert command[:4] == ["py", "-m", "zipfile", "-c"]
    zipfile.main(command[3:])
    packed = recognise(command[4])
    assert packed is not None and packed.name == CHECKPOINT


def test_other_folders_are_recognised(tmp_path: Path) -> None:
    found = recognise(tmp_path)
    assert found == ("a directory", "give a file")
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = recognise(tmp_path)
    assert found is not None and found.hint == f"give WEIGHTS={tmp_path / 'model.safetensors'}"
    (tmp_path / ".metadata").write_bytes(b"")
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    found = recognise(tmp_path)
    assert found is not None and found.name == "a distributed checkpoint"
    assert found.hint.startswith(f"{sys.executable} -m torch.distributed.") and "dcp_to_torch" in found.hint


def test_a_list_of_weight_shards_is_recognised(tmp_path: Path) -> None:
    text = json.dumps({"weight_map": {"conv1.weight": "model-00001-of-00002.safetensors"}})
    assert "weight_map" in kind_of(tmp_path, text.encode())[0]
