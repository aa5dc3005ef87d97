"""Recognise the kind of a file by its first bytes. Used in error messages about wrong files and failed downloads."""

from __future__ import annotations

import codecs
import contextlib
import mmap
import re
import shlex
import sys
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional

from hrnet.cli import first_few
from hrnet.io.files import AnyPath

HEAD = 4096  # bytes that are read
CHECKPOINT, TORCHSCRIPT, ONNX = "a PyTorch checkpoint", "a TorchScript file", "an ONNX file"
SAFETENSORS, PDPARAMS = "a safetensors file", "a PaddlePaddle file"
WEIGHTS = (CHECKPOINT, SAFETENSORS, PDPARAMS)  # kinds that hrnet/nets/checkpoint.py reads
MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # at the start of files that torch.save wrote without a zip archive
MAX_HEADER = 100_000_000  # bytes of a safetensors header; limit of the format
SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors", ".pdparams", ".onnx", ".ts")
TS = "BACKEND=torchscript TS"  # without BACKEND, make ignores TS
DOWNLOAD_AGAIN = "download it again, and compare its size with the published one"
PADDLE = "StructuredToParameterName@@"  # an entry of each state dict that paddle.save wrote

# First bytes, name, command that decompresses it.
COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gzip -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
)
OTHERS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and give the file in it"),
    (b"Rar!", "a RAR archive", "unpack it, and give the file in it"),
    (b"\x89HDF", "an HDF5 file", "HDF5 is a format of Keras; give a checkpoint of PyTorch"),
    (b"IMOD", "a compiled model of atc", "give OM={path}"),
    (b"%PDF-", "a PDF file", "give another file"),
    (b"GGUF", "a GGUF file", "give another file"),
)
# ModelProto: ir_version, then the tag of another field.
ONNX_START = re.compile(rb"\x08[\x01-\x1e][\x12\x1a\x22\x28\x32\x3a\x42\x72]", re.DOTALL)


class Kind(NamedTuple):
    """The kind of a file, and a hint for the user."""

    name: str
    hint: str


def recognise(path: AnyPath, python: str = sys.executable) -> Optional[Kind]:
    """The kind of a file or directory by its content; None if unknown. Does not raise for a damaged file. `python`: the
    interpreter for commands in the hint, which may need torch."""
    path = Path(path)
    if path.is_dir():
        return _folder(path, python)
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        return Kind("an empty file", DOWNLOAD_AGAIN)
    if not head.strip(b"\0"):
        return Kind("a file that begins with zeros", f"the download is not complete: {DOWNLOAD_AGAIN}")
    if is_safetensors(head):
        return Kind(SAFETENSORS, "")
    if MAGIC in head[:64]:
        return Kind(CHECKPOINT, "")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    quoted = shlex.quote(str(path))
    for start, name, command in COMPRESSED:
        if head.startswith(start):
            return _tar(path, f"a tar archive, compressed with {name}") or Kind(
                f"a file compressed with {name}", f"{command} {quoted} > {shlex.quote(_unpacked_name(path))}"
            )
    for start, name, hint in OTHERS:
        if head.startswith(start):
            return Kind(name, hint.format(path=quoted))
    if head[257:262] == b"ustar":
        return _tar(path, "a tar archive") or Kind("a damaged tar archive", DOWNLOAD_AGAIN)
    if re.match(rb"\x80[\x02-\x05]", head):
        return _pickle(path)
    if ONNX_START.match(head):
        return Kind(ONNX, f"give ONNX={quoted}")
    return _text(path, head)


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like safetensors: the size of a JSON header as uint64, then the header."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER


def _unpacked_name(path: Path) -> str:
    """A name with a checkpoint's extension: `a.pth` for `a.pth.gz`."""
    stem = path.with_suffix("")
    return str(stem if stem.suffix in SUFFIXES else f"{stem}.unpacked.pth")


def _zip(path: Path) -> Kind:
    # Not imported at the top of this file, to save time: each call of make imports this file
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged archive makes zipfile raise exceptions of many types
        cut = "truncated: the directory at its end is missing" if "not a zip" in str(error) else str(error)
        return Kind(f"a damaged zip archive ({cut})", DOWNLOAD_AGAIN)
    pure = [PurePosixPath(name) for name in names]
    if any("code" in name.parts[:-1] and name.suffix == ".py" for name in pure):
        return Kind(TORCHSCRIPT, f"give {TS}={shlex.quote(str(path))}")
    if any(name.name == "data.pkl" for name in pure):
        return Kind(CHECKPOINT, "")
    if any(name.name in ("serialized_exported_program.json", "archive_format") for name in pure):
        return Kind("a program of torch.export", "give the checkpoint that it was exported from")
    if names and all(name.suffix == ".npy" for name in pure):
        return Kind("a NumPy archive", "save its arrays as tensors: torch.save({name: tensor, …}, …)")
    return _archive("a zip archive", f"unzip {shlex.quote(str(path))}", names)


def _tar(path: Path, name: str) -> Optional[Kind]:
    """The kind of a tar archive; None if it is not one."""
    import lzma
    import tarfile
    import zlib

    names: list[str] = []
    try:
        with tarfile.open(path, "r:*") as archive:
            while len(names) < 1000 and (member := archive.next()):
                names.append(member.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError):
        if not names:
            return None
    if {"pickle", "storages", "tensors"} <= set(names):
        hint = "load it by torch.load(…, weights_only=False), if you trust it, and save its tensors by torch.save"
        return Kind("a checkpoint of PyTorch 0.1", hint)
    return _archive(name, f"tar -xf {shlex.quote(str(path))}", names)


def _archive(name: str, command: str, names: list[str]) -> Kind:
    inside = [each for each in names if each.endswith(SUFFIXES)]
    variable = {".onnx": "ONNX", ".ts": TS}.get(PurePosixPath(inside[0]).suffix, "WEIGHTS") if inside else ""
    give = f", then give {variable}={shlex.quote(inside[0])}" if inside else ", and give the file in it"
    return Kind(f"{name} of {first_few(inside or names) or 'nothing'}", command + give)


def _pickle(path: Path) -> Kind:
    with contextlib.suppress(ValueError, OSError), open(path, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if path.suffix == ".pdparams" or content.find(PADDLE.encode()) >= 0:
                return Kind(PDPARAMS, "")
    return Kind("a pickle that torch.save did not write", "save it by torch.save(net.state_dict(), …)")


def _text(path: Path, head: bytes) -> Optional[Kind]:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # without an incomplete character at the end
    except UnicodeDecodeError:
        return None
    text = text.strip()
    if not re.fullmatch(r"[^\x00-\x08\x0e-\x1f\x7f]+", text):
        return None
    start = text[:200].lower()
    if text.startswith("version https://git-lfs.github.com/spec/"):
        size = re.search(r"^size (\d+)$", text, re.MULTILINE)
        name = f"a Git LFS pointer{f' to {size[1]} bytes' if size else ''}"
        folder, file = shlex.quote(str(path.parent)), shlex.quote(path.name)
        return Kind(name, f"git -C {folder} lfs pull --include {file}")
    if start.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in start:
        return Kind("an HTML page", "open it in a browser to see why the download failed, then download again")
    line = text.splitlines()[0][:60]
    return Kind(f"text that begins with {line!r}", f"read it to see why the download failed, then {DOWNLOAD_AGAIN}")


def _folder(path: Path, python: str) -> Kind:
    for inner in (path, *sorted(entry for entry in path.iterdir() if entry.is_dir())):
        if (inner / "data.pkl").is_file():
            output = shlex.quote(f"{path.with_suffix('')}.repacked.pth")
            return Kind("an unpacked checkpoint", f"{python} -m zipfile -c {output} {shlex.quote(str(inner))}")
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        command = f"{python} -m torch.distributed.checkpoint.format_utils dcp_to_torch"
        output = shlex.quote(f"{path.with_suffix('')}.single.pth")
        return Kind("a distributed checkpoint", f"{command} {shlex.quote(str(path))} {output}")
    inside = sorted(entry.name for entry in path.iterdir() if entry.name.endswith(SUFFIXES))
    give = f"give WEIGHTS={shlex.quote(str(path / inside[0]))}" if inside else "give a file"
    return Kind(f"a directory{f' of {first_few(inside)}' if inside else ''}", give)
