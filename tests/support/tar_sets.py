"""Tar files of samples, written by tarfile or byte by byte."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Union

Entry = Union[tuple[str, bytes], tarfile.TarInfo]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A member without data: a folder, link or device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_tar(path: Path, entries: Iterable[Entry], form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for each in entries:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
            else:
                info = tarfile.TarInfo(each[0])
                info.size = len(each[1])
                archive.addfile(info, io.BytesIO(each[1]))
    return path


def samples(labels: dict[str, int], ending: str = "jpg") -> list[Entry]:
    """A file in place of an image, and its label, for each key."""
    pairs = (
        ((f"{key}.{ending}", key.encode("utf-8", "surrogateescape")), (f"{key}.cls", b"%d" % label))
        for key, label in labels.items()
    )
    return [each for pair in pairs for each in pair]
