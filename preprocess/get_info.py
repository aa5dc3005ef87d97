"""A directory of inputs or images -> the info file for benchmark.x86_64, with lines `index path width height`.

    python -m preprocess.get_info bin ./prep_dataset ./hrnet_prep_bin.info 224 224
    python -m preprocess.get_info jpg ./images ./images.info

The arguments are those of the model zoo's get_info.py. bin: lists every *.bin with the given width and height. jpg:
lists every *.jpg and *.jpeg with its own size. Files are in natural order and each index occurs once (the model zoo's
script starts again at 0 for each file name extension).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, command, integer
from hrnet.io.files import make_folder, natural_key
from hrnet.io.summary import write_info
from preprocess.decode import size_of
from preprocess.folder import Rejection, read_image

SUFFIXES = {"bin": (".bin",), "jpg": (".jpg", ".jpeg")}


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, read from the file header."""
    size = read_image(path, size_of)
    if isinstance(size, Rejection):
        raise UserError(f"not a readable image: {size.reason}", where=path, hint="fix or remove it")
    return size


def run(file_type: str, folder: Path, info: Path, size: Optional[tuple[int, int]]) -> None:
    """Write the info file of `folder`. `size`: (width, height) in pixels for .bin files, None for images."""
    hint = "run make preprocess" if file_type == "bin" else None  # it writes no images
    if not folder.is_dir():
        raise UserError("no such directory", where=folder, hint=hint)
    names = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES[file_type]]
    if not names:
        raise UserError(f"contains no {file_type} file", where=folder, hint=hint)
    paths = [folder / name for name in sorted(names, key=natural_key)]
    make_folder(info.parent)
    count = write_info(info, ((str(path), *(size or image_size(path))) for path in paths))
    print(f"wrote {count} lines to {info}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocess.get_info", description=__doc__.splitlines()[0])
    parser.add_argument("file_type", choices=sorted(SUFFIXES), help="file type to list")
    parser.add_argument("file_path", type=Path, help="directory of the inputs or images")
    parser.add_argument("info_name", type=Path, help="info file to write")
    parser.add_argument("width", type=integer(1), nargs="?", help="width of all inputs in pixels, only for bin")
    parser.add_argument("height", type=integer(1), nargs="?", help="height of all inputs in pixels, only for bin")
    args = parser.parse_args(argv)
    if (args.file_type == "bin") != (args.height is not None):
        parser.error("give width and height for bin, and neither for jpg")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    size = (args.width, args.height) if args.file_type == "bin" else None
    run(args.file_type, args.file_path, args.info_name, size)


if __name__ == "__main__":
    sys.exit(main())
