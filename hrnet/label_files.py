"""Read the label list of a data set: val_label.txt or val_list.txt, lines `name index`."""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from hrnet.class_folders import WHOLE
from hrnet.io.files import AnyPath, relative_path
from hrnet.io.records import FormatError


def read_labels(path: AnyPath, root: Optional[Path] = None) -> dict[str, int]:
    """Read `name index` lines (val_label.txt, val_list.txt) as {name: class index}. The index follows the last white
    space of the line.

    `root`: the data set's directory; names are then returned as paths relative to it. A leading `./` is allowed, and a
    leading `val/` in val_label.txt. Raises FormatError with the line number.
    """
    data = Path(path).read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise FormatError("not UTF-8 text", where=path)
    data = data.removeprefix(b"\xef\xbb\xbf")  # the byte order mark that Windows editors write
    flat = Path(path).name == "val_label.txt"
    folder = root / "val" if root and flat else root
    labels: dict[str, int] = {}
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape"), 1):
        parts = line.rsplit(None, 1)
        if not parts:
            continue
        name, index = (parts[0].strip(), parts[1]) if len(parts) == 2 else ("", parts[0])
        if not name or not WHOLE.fullmatch(index):
            found, hint = repr(line[:80].rstrip("\n")), _label_hint(number, line.strip(), path)
            raise FormatError(f"invalid line {number}", where=path, expected="name index", found=found, hint=hint)
        if folder is not None:
            try:
                name = relative_path(folder, name)
            except ValueError as error:
                raise FormatError(f"line {number}: {error}", where=path, found=repr(line[:80].rstrip("\n"))) from None
            if flat and not name.startswith("val/"):
                name = f"val/{name}"
        if name in labels:
            raise _second_label(name, int(index), number, labels, data, path)
        labels[name] = int(index)
    if not labels:
        hint = "write one line for each image; or remove the file if the images are in val/<class>/"
        raise FormatError("no labels", where=path, expected="lines `name index`", hint=hint)
    return labels


def _second_label(
    name: str, label: int, number: int, labels: Mapping[str, int], data: bytes, path: AnyPath
) -> FormatError:
    """The error for a second label of an image, in line `number`. The lines before it that are not empty have one label
    each."""
    lines = enumerate(io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape"), 1)
    first = [at for at, line in lines if line.strip()][list(labels).index(name)]
    file = shlex.quote(os.fspath(path))
    which = "" if label == labels[name] else f"if line {first} is right: "
    found = f"{labels[name]} in line {first}, {label} in line {number}"
    hint = f"{which}sed -i {number}d {file}"
    return FormatError(f"line {number}: a second label for {name}", where=path, found=found, hint=hint)


def _label_hint(number: int, line: str, path: AnyPath) -> str:
    """How to fix a line of labels that is not `name index`."""
    file, words = shlex.quote(os.fspath(path)), line.split()
    if re.fullmatch(r".+[,;|][0-9]+", line):
        return f"put a space before each index: sed -i -E 's/[,;|]([0-9]+)[[:space:]]*$/ \\1/' {file}"
    if len(words) > 1 and WHOLE.fullmatch(words[0]) and not words[-1].isdigit():
        return f"put the name first: sed -i -E 's/^([0-9]+)[[:space:]]+(.*[^[:space:]])/\\2 \\1/' {file}"
    if number == 1 and len(words) == 2 and words[1].isalpha() and "." not in words[0]:
        return f"if it is a heading: sed -i 1d {file}"
    return "write lines such as img1.JPEG 3; classes are numbered from 0"
