"""Pictures of a run: tiles in rows on one sheet, and the photographs they are drawn from."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from hrnet.cli import UserError

BORDER = 6  # around a photograph and between tiles, pixels
LINE = 14  # height of a line of text
INK, PAPER = "#202020", "#ffffff"


def open_photograph(path: Path) -> Image.Image:
    """A photograph as the stages see it, its EXIF rotation ignored. Raises UserError where it is missing or broken."""
    try:
        photograph = Image.open(path)
        photograph.load()
    except FileNotFoundError:
        raise UserError("no such image", where=path, hint="give DATASET=<folder>") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error}", where=path, hint="make preprocess") from None
    return photograph


def draw_sheet(tiles: list[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size in rows of `columns`, BORDER apart."""
    width, height = tiles[0].width + BORDER, tiles[0].height + BORDER
    columns, rows = min(columns, len(tiles)), math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + BORDER, rows * height + BORDER), PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (BORDER + column * width, BORDER + row * height))
    return sheet
