"""Find images without labels: files, directories of files, and patterns such as `photos/*.jpg`, as given to `make
predict` in IMAGES. Uses only the standard library, since make checks IMAGES before packages are installed.

A file in a directory is an image if its name has an extension of an image (hrnet.io.files.IMAGES); directories in it
are not searched, and its other files are skipped. A file that is given by name may have any extension.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hrnet.cli import UserError, first_few
from hrnet.io.files import IMAGES, natural_key
from hrnet.io.recognise import recognise

SPACES = "IMAGES is divided at spaces: for a name with a space, write ? instead of the space"


def find_plain_images(given: Iterable[str]) -> list[str]:
    """The paths of the images in the given order, those of a directory or pattern in natural order, each one once.
    Raises UserError for a path that does not exist, a file that is not an image, a directory without images, and a
    pattern without matches."""
    found: dict[str, None] = {}
    for each in (name for one in given for name in _matches(one)):
        path = os.path.normpath(each)
        if os.path.isdir(path):
            found.update(dict.fromkeys(_in_folder(path)))
        elif os.path.isfile(path):
            _check_file(path)
            found[path] = None
        else:
            raise UserError("no such file or directory", where=each, hint=SPACES)
    return list(found)


def _matches(given: str) -> Sequence[str]:
    """The names that match `given` if it is a pattern, which the shell does not expand in `IMAGES=…`; else `given`."""
    if os.path.exists(given) or not glob.has_magic(given):
        return [given]
    if found := sorted(glob.glob(given), key=natural_key):
        return found
    folder = os.path.dirname(given) or os.curdir
    if not os.path.isdir(folder):
        raise UserError("no such directory", where=folder, hint=SPACES)
    names = first_few(sorted(name for name in os.listdir(folder) if name[0] != "."))
    hint = f"for all images of the directory: IMAGES={folder}/"
    raise UserError("no file matches this pattern", where=given, found=names or "nothing", hint=hint)


def _in_folder(folder: str) -> Sequence[str]:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    images = [entry.name for entry in entries if entry.is_file() and entry.name.lower().endswith(IMAGES)]
    if not images:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
        inside = next((os.path.join(folder, name) for name in names if name.endswith("/")), None)
        hint = f"directories in it are not searched: give IMAGES={inside}" if inside else None
        expected = ", ".join(f"*{ending}" for ending in IMAGES)
        found = first_few(names) or "nothing"
        raise UserError("no images in this directory", where=folder, expected=expected, found=found, hint=hint)
    return [os.path.normpath(os.path.join(folder, name)) for name in sorted(images, key=natural_key)]


def skipped_files(given: Iterable[str]) -> list[str]:
    """The files in the given directories that are not images by their names, without hidden ones."""
    folders = dict.fromkeys(os.path.normpath(each) for each in given if os.path.isdir(each))
    entries = [entry for folder in folders for entry in os.scandir(folder) if entry.name[0] != "." and entry.is_file()]
    names = [os.path.normpath(entry.path) for entry in entries if not entry.name.lower().endswith(IMAGES)]
    return sorted(names, key=natural_key)


def _check_file(path: str) -> None:
    """Raise UserError for a file of another known kind, such as a PDF. Decoding finds damaged images."""
    kind = None if path.lower().endswith(IMAGES) else recognise(Path(path))
    if kind:
        raise UserError("not an image", where=path, found=kind.name, hint=f"remove {path} from IMAGES")
