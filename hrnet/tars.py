"""Data sets in tar files, in WebDataset's layout (https://github.com/webdataset/webdataset): `key.jpg` with `key.cls`
or `key.json`. hrnet/tar_files.py finds the files.

Each tar file is scanned once for the positions of its images. Any process can then read any image by its position.
Nothing is unpacked.
"""

from __future__ import annotations

import functools
import json
import os
import posixpath
import re
import shlex
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional, Union

from hrnet.cli import FormatError, first_few
from hrnet.io.files import IMAGES, AnyPath
from hrnet.tar_files import PROGRAMS

LABEL_KEYS = ("label", "cls", "class")  # keys of the label in a .json member
MAX_LABEL = 1 << 20  # bytes of a .cls or .json member
WHOLE = re.compile(rb"[0-9]{1,9}")
UNCLEAN = re.compile(r"(^|/)\.{0,2}(/|$)")  # a name with an empty part, `.` or `..`
BLOCK = tarfile.BLOCKSIZE
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
EXTENSIONS = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}  # without one, the programs reject a file
KINDS = {tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.GNUTYPE_SPARSE: "a sparse file"}
NEW_COPY = "copy or download it again, or write it again with tar"
NEW_TAR = "-C <directory of the images> -cf <name>.tar ."  # arguments of tar, for names relative to the directory


class Member(NamedTuple):
    """The position of an image in a tar file."""

    tar: str
    offset: int  # bytes
    size: int

    def read_bytes(self) -> bytes:
        """Read the image file's bytes. Raises OSError, also if the tar file is now shorter."""
        descriptor = os.open(self.tar, os.O_RDONLY)
        try:
            data = os.pread(descriptor, self.size, self.offset)
        finally:
            os.close(descriptor)
        if len(data) != self.size:
            raise OSError(None, f"{self.tar} has changed", self.tar)
        return data

    def __str__(self) -> str:
        return f"{self.tar} at byte {self.offset}"


Source = Union[Path, Member]  # where an image is stored; both have read_bytes()


@dataclass(frozen=True)
class TarIndex:
    """The images of one tar file and their labels, by member name, in the tar file's order."""

    images: dict[str, Member]
    labels: dict[str, int]  # only of images that have a label


def find_source(dataset: Path, source: str) -> Source:
    """The file or tar member of an image. `source`: its path relative to the data set, as in a manifest. Raises
    FormatError if the tar file has no such member."""
    path = (dataset.parent if dataset.is_file() else dataset) / source
    tar = next(filter(Path.is_file, path.parents), None) if ".tar/" in source else None
    if tar is None:
        return path
    name, status = path.relative_to(tar).as_posix(), tar.stat()
    member = _read_tar_cached(tar, status.st_size, status.st_mtime_ns).images.get(name)
    if member is None:
        raise FormatError(f"no member {name}", where=tar, hint="is this the data set that was preprocessed?")
    return member


@functools.lru_cache(maxsize=2)
def _read_tar_cached(tar: Path, size: int, time: int) -> TarIndex:
    return read_tar(tar)


@dataclass
class _Samples:
    """The members of a tar file that were read so far, by key."""

    images: dict[str, str] = field(default_factory=dict)  # key -> name
    members: dict[str, Member] = field(default_factory=dict)  # name -> position
    labels: dict[str, int] = field(default_factory=dict)  # from .cls
    json_labels: dict[str, Union[int, str]] = field(default_factory=dict)  # from .json: the label, or why there is none
    dotted: dict[str, str] = field(default_factory=dict)  # key -> a name with more than one dot, such as x.seg.png


def read_tar(path: AnyPath) -> TarIndex:
    """Find the images and labels in a tar file. Raises FormatError if it is truncated, damaged or compressed, for a
    duplicate key, a label without an image, a link, and a path outside of the directory."""
    samples = _Samples()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        _check_kind(path, file.read(BLOCK * 2), size)
        file.seek(0)
        try:
            end = _read_members(path, file, size, samples)
        except tarfile.TarError as error:
            raise FormatError(f"damaged tar file: {error}", where=path, hint=NEW_COPY) from None
        except (ValueError, LookupError, ArithmeticError, RecursionError) as error:  # malformed extended headers
            raise FormatError(f"damaged tar file: {type(error).__name__}", where=path, hint=NEW_COPY) from None
        _check_end(path, file, end, size)
    return _combine(path, samples)


def _read_members(path: AnyPath, file: BinaryIO, size: int, samples: _Samples) -> int:
    """Read all members into `samples`; return the position after the last one."""
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        last = -1
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all members in memory
            if info.size < 0 or info.offset <= last:
                raise FormatError("damaged tar file", where=path, found=f"{info.name} at {info.offset}")
            last = info.offset
            if info.isreg() and not info.issparse() and info.offset_data + info.size > size:
                found = f"{info.name} ends at byte {info.offset_data + info.size} of {size}"
                raise FormatError("truncated tar file", where=path, found=found, hint=NEW_COPY)
            if not info.isdir():
                _add(path, file, info, samples)
        return archive.offset


def _add(path: AnyPath, file: BinaryIO, info: tarfile.TarInfo, samples: _Samples) -> None:
    """Add one member if it is an image or a label."""
    name = _normalise_name(info.name, path)
    key, ending = _split(name)
    image = f".{ending}" in IMAGES
    if not image and ending not in ("cls", "json"):
        if ending.endswith(IMAGES) or ending.endswith(".cls"):
            samples.dotted.setdefault(key, name)
        return
    if not info.isreg() or info.issparse():
        what = KINDS[tarfile.GNUTYPE_SPARSE] if info.issparse() else KINDS.get(info.type, "not a file")
        hint = f"write it again: tar --hard-dereference -h {NEW_TAR}"
        raise FormatError(f"{name} is {what}", where=path, expected="a regular file", hint=hint)
    if key in (samples.images if image else samples.labels if ending == "cls" else samples.json_labels):
        found = f"{samples.images[key]} and {name}" if image else f"{name} twice"
        hint = "the key is the name up to its first dot; each key has one image and one label"
        raise FormatError("duplicate key", where=path, found=found, hint=hint)
    if image:
        samples.images[key] = name
        samples.members[name] = Member(os.fspath(path), info.offset_data, info.size)
        return
    if info.size > MAX_LABEL:
        raise FormatError(f"{name}: not a label", where=path, found=f"{info.size} bytes")
    file.seek(info.offset_data)
    data = file.read(info.size)
    if ending == "json":
        samples.json_labels[key] = _label_from_json(data)
        return
    text = data.strip()
    if not WHOLE.fullmatch(text):
        raise FormatError(
            f"{name}: not a class index", where=path, expected="an integer of at least 0", found=repr(data[:40])
        )
    samples.labels[key] = int(text)


def _normalise_name(name: str, path: AnyPath) -> str:
    """The normalised name of a member, without `.` or `..`. Raises FormatError if it is outside of the tar's
    directory."""
    if UNCLEAN.search(name):
        clean = posixpath.normpath(name)
        if clean.startswith(("/", "../")) or clean == "..":
            what = "is absolute" if clean[0] == "/" else "is outside of the directory"
            raise FormatError(f"member name {what}", where=path, found=name, hint=f"write it again: tar {NEW_TAR}")
        name = clean
    if name.isascii():
        return name
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))  # decoded in the same way as file names, in any locale


def _split(name: str) -> tuple[str, str]:
    """Divide a member's name at the first dot of its base name into key and extension; a hidden file has none."""
    start = name.rfind("/") + 1
    dot = name.find(".", start)
    return (name[:dot], name[dot + 1 :].lower()) if dot > start else (name, "")


def _label_from_json(data: bytes) -> Union[int, str]:
    """The label in a .json member, or the reason why it has none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return "not JSON"
    found = [content[key] for key in LABEL_KEYS if key in content] if isinstance(content, dict) else []
    labels = {value for value in found if isinstance(value, int) and not isinstance(value, bool) and value >= 0}
    if len(labels) == 1:
        return labels.pop()
    expected = ", ".join(f'"{key}"' for key in LABEL_KEYS)
    return f"more than one label in {expected}" if labels else f"no class index in {expected}"


def _combine(path: AnyPath, samples: _Samples) -> TarIndex:
    """Combine images and labels. Raises FormatError for labels without an image and images with an invalid label."""
    images, labels = samples.images, samples.labels
    if alone := [samples.dotted.get(key, f"{key}.cls") for key in labels if key not in images]:
        what, hint = "keys without an image", "the key is the name up to its first dot; rename the files"
        raise FormatError(what, where=path, expected=f"key{'|'.join(IMAGES)}", found=first_few(alone), hint=hint)
    if alone := [name for key, name in samples.dotted.items() if key not in images]:
        hint = "the key is the name up to its first dot; rename the files"
        raise FormatError("names with more than one dot", where=path, found=first_few(alone), hint=hint)
    json_labels = {key: label for key, label in samples.json_labels.items() if key not in labels}
    wrong = [f"{key}.json: {label}" for key, label in json_labels.items() if isinstance(label, str) and key in images]
    if wrong:
        raise FormatError("images without a label", where=path, found=first_few(wrong))
    labels.update({key: label for key, label in json_labels.items() if isinstance(label, int)})
    if alone := [f"{key}.json" for key in json_labels if key in labels and key not in images]:
        raise FormatError("keys without an image", where=path, found=first_few(alone))
    if not images:
        raise FormatError("no images", where=path, expected="key.jpg with key.cls or key.json")
    return TarIndex(samples.members, {name: labels[key] for key, name in images.items() if key in labels})


def _check_kind(path: AnyPath, start: bytes, size: int) -> None:
    """Raise FormatError for files that are certainly not tar files, with what they are."""
    text = start.lstrip().lower()
    kind: Optional[str] = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if kind is not None:
        quoted = shlex.quote(os.fspath(path))
        hint = f"unpack it first: unzip {quoted}"
        if extension := EXTENSIONS.get(kind):
            renamed = shlex.quote(f"{os.fspath(path)}.{extension}")
            hint = f"decompress it first: mv {quoted} {renamed} && {PROGRAMS[extension]} {renamed}"
        raise FormatError("compressed file", where=path, expected="a plain tar file", found=kind, hint=hint)
    if start.startswith(b"version https://git-lfs"):
        folder, name = os.path.split(os.path.abspath(path))
        hint = f"git -C {shlex.quote(folder)} lfs pull --include {shlex.quote(name)}"
        raise FormatError("not a tar file", where=path, found="a Git LFS pointer", hint=hint)
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        hint = "open it in a browser to see why the download failed, then download again"
        raise FormatError("not a tar file", where=path, found="an HTML or XML page", hint=hint)
    if size < BLOCK:
        raise FormatError("not a tar file", where=path, found=f"{size} bytes", hint=NEW_COPY)


def _check_end(path: AnyPath, file: BinaryIO, end: int, size: int) -> None:
    """Require a block of zeros at the end, and no data after it; tarfile does not check this."""
    file.seek(end)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        found = f"no end-of-archive block at byte {end} of {size}"
        raise FormatError("truncated tar file", where=path, found=found, hint=NEW_COPY)
    while block:
        if block.strip(b"\0"):
            joined = file.tell() > end + BLOCK
            hint = "join tar files with tar -A, not with cat" if joined else NEW_COPY
            found = f"data {'after' if joined else 'at'} byte {end}"
            raise FormatError(
                "damaged tar file, or several tar files joined in one", where=path, found=found, hint=hint
            )
        block = file.read(1 << 20)
