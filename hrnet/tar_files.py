"""Find the tar files of a data set, without reading them; hrnet/tars.py reads them. Uses only the standard library,
since make counts tar files before packages are installed, and only small modules, since each call of make imports it.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from hrnet.cli import FormatError, first_few
from hrnet.io.files import natural_key

LISTS = ("val_label.txt", "val_list.txt")  # in a directory with one of them, tar files are ignored
COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst|lz4|z|br))$", re.IGNORECASE)
PROGRAMS = {  # extension -> command that replaces a file by the decompressed one
    **dict.fromkeys(("z", "gz", "tgz"), "gunzip"),
    **dict.fromkeys(("bz2", "tbz", "tbz2"), "bunzip2"),
    **dict.fromkeys(("xz", "txz"), "unxz"),
    **dict.fromkeys(("zst", "tzst"), "unzstd --rm"),
    "lz4": "lz4 -d --rm",
    "br": "brotli -d --rm",
}


def find_tars(dataset: Path) -> tuple[Path, list[str]]:
    """Find the tar files of a data set. Returns a directory, and the paths of the tar files relative to it, in natural
    order; no paths if the data set does not consist of tar files.

    `dataset`: a directory with *.tar in it or in its val/, a text file (.txt) with one path per line, or one tar file.
    Raises FormatError for compressed tar files, a malformed list, a tar file that is listed twice, and a directory that
    contains both training and other tar files.
    """
    if not dataset.is_dir():
        if not dataset.is_file():
            return dataset, []
        single = dataset.name.endswith(".tar") or COMPRESSED.search(dataset.name)
        names = [dataset.name] if single else _read_list(dataset)
        return _check_tars(dataset.parent, names, dataset)
    root = dataset.parent if dataset.name == "val" and not (dataset / "val").is_dir() else dataset
    if any((root / name).is_file() for name in LISTS):
        return root, []
    if (root / "val").is_dir():
        entries = [entry for entry in os.scandir(root / "val") if entry.name[0] != "."]
        if any(entry.is_dir() for entry in entries):  # class directories
            return root, []
        return _check_tars(root, [f"val/{entry.name}" for entry in entries], root / "val")
    return _check_tars(root, [entry.name for entry in os.scandir(root) if entry.name[0] != "."], root)


def _check_tars(root: Path, found: Sequence[str], where: Path) -> tuple[Path, list[str]]:
    """Select and check the tar files among the names in a directory or list."""
    packed = sorted(filter(COMPRESSED.search, found), key=natural_key)
    if packed:
        program = PROGRAMS[packed[0].rpartition(".")[2].lower()]
        hint = f"decompress them first: {program} {shlex.quote(str(root / packed[0]))}"
        raise FormatError("compressed tar files are not supported", where=where, found=first_few(packed), hint=hint)
    names = sorted((name for name in found if name.endswith(".tar")), key=natural_key)
    training = [name for name in names if "train" in os.path.basename(name).lower()]
    if where.is_dir() and training and len(training) < len(names):  # a list is an explicit choice
        what, hint = "training and other tar files together", "list the files to evaluate: DATASET=<list>.txt"
        raise FormatError(what, where=where, found=first_few(training), hint=hint)
    seen: dict[tuple[int, int], str] = {}
    for name in names:
        try:
            status = os.stat(root / name)
        except OSError as error:
            raise FormatError(f"cannot be read: {error.strerror}", where=root / name) from None
        if not stat.S_ISREG(status.st_mode):
            raise FormatError("not a file", where=root / name, expected="a tar file")
        if first := seen.get((status.st_dev, status.st_ino)):
            raise FormatError("duplicate tar file", where=where, found=f"{first}, {name}", hint="remove one of them")
        seen[status.st_dev, status.st_ino] = name
    return root, names


def _read_list(path: Path) -> list[str]:
    """The tar files in a list, one per line. Empty lines and lines that start with # are skipped."""
    data = path.read_bytes()
    if path.suffix != ".txt" or b"\0" in data:
        hint = "give DATASET=<directory>, or a list of tar files, .txt"
        raise FormatError("not a data set", where=path, expected="a directory, or a list of tar files", hint=hint)
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").splitlines()
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        name = os.path.normpath(os.fsdecode(line.strip().encode("utf-8", "surrogateescape")))
        if not line.strip() or line.startswith("#"):
            continue
        if not name.endswith(".tar") and not COMPRESSED.search(name):
            expected, found = "a path that ends in .tar", repr(line[:80])
            hint = "remove the line; for a list of images give the directory with val_list.txt"
            hint = f"give DATASET={path.parent}" if path.name in LISTS else hint  # a list of images
            raise FormatError(f"invalid line {number}", where=path, expected=expected, found=found, hint=hint)
        names.append(name)
    if not names:
        raise FormatError("no tar files in the list", where=path, expected="one path per line, relative to the list")
    return names
