"""Draw images with the results of a model as tiles of equal size, and combine the tiles into one sheet."""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from hrnet.cli import plural
from hrnet.pose.joints import SKELETON
from postprocess.topn import TOP

BORDER = 6  # around an image and between tiles, pixels
LINE = 14  # height of a line of text
INK, PAPER, RIGHT, WRONG = "#202020", "#ffffff", "#2e7d32", "#c62828"
CLASS_SIDE, POSE_SIDE = 160, 320  # side of the square for an image, pixels
CLASS = 48  # offset of the class from the probability, pixels
MIN_JOINT_SCORE = 0.05  # only joints with a higher score are drawn
FILLED_JOINT_SCORE = 0.3  # joints with a higher score are drawn as filled dots


class Guess(NamedTuple):
    """A class, its probability (0 to 1) and its name."""

    label: int
    probability: float
    name: str


def draw_sheet(tiles: list[Image.Image], columns: int) -> Image.Image:
    """Combine tiles of equal size in rows of `columns` tiles, with gaps of BORDER pixels."""
    width, height = tiles[0].width + BORDER, tiles[0].height + BORDER
    columns, rows = min(columns, len(tiles)), math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + BORDER, rows * height + BORDER), PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (BORDER + column * width, BORDER + row * height))
    return sheet


def empty_tile(side: int, lines: int) -> Image.Image:
    """An empty tile: a square of `side` pixels for an image, with space for `lines` lines of text below."""
    return Image.new("RGB", (side + 2 * BORDER, side + 3 * BORDER + lines * LINE), PAPER)


def draw_text(tile: Image.Image, x: int, y: int, text: str, colour: str) -> None:
    """Write a line of text, cut off at the border of the tile. Characters that the font cannot draw are replaced."""
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default()
    unicode = isinstance(font, ImageFont.FreeTypeFont)  # else Pillow's bitmap font, which has only Latin-1
    encoding, dots = ("utf-8", "…") if unicode else ("latin-1", "...")
    text = text.encode(encoding, "replace").decode(encoding)
    if pen.textlength(text, font=font) > tile.width - BORDER - x:
        while text and pen.textlength(text + dots, font=font) > tile.width - BORDER - x:
            text = text[:-1]
        text += dots
    pen.text((x, y), text, fill=colour, font=font)


def draw_classes(image: Image.Image, title: str, label: Optional[int], best: list[Guess]) -> Image.Image:
    """Draw an image with a title and its most probable classes, best first. The frame is green if the best one is the
    label, red if it is not, and dark without a label."""
    wrong = label is not None and best[0].label != label
    colour = INK if label is None else WRONG if wrong else RIGHT
    tile = empty_tile(CLASS_SIDE, TOP + 1)
    ImageDraw.Draw(tile).rectangle((0, 0, tile.width - 1, CLASS_SIDE + 2 * BORDER - 1), fill=colour)
    tile.paste(ImageOps.pad(image.convert("RGB"), (CLASS_SIDE, CLASS_SIDE), color=PAPER), (BORDER, BORDER))
    top = CLASS_SIDE + 2 * BORDER
    draw_text(tile, BORDER, top, f"WRONG, {title}" if wrong else title, colour)
    for row, guess in enumerate(best, 1):
        colour = RIGHT if guess.label == label else INK
        draw_text(tile, BORDER, top + row * LINE, f"{guess.probability:.2%}", colour)
        draw_text(tile, BORDER + CLASS, top + row * LINE, guess.name, colour)
    return tile


def draw_poses(image: Image.Image, name: str, people: list[np.ndarray]) -> Image.Image:
    """Draw an image with the skeletons of people (float [17, 3]: x, y in pixels of the image, score) in different
    colours."""
    factor = POSE_SIDE / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(resized)
    for joints, colour in zip(people, colours(len(people))):
        draw_person(pen, np.column_stack([joints[:, :2] * factor, joints[:, 2]]), colour)
    tile = empty_tile(POSE_SIDE, 1)
    tile.paste(resized, (BORDER + (POSE_SIDE - width) // 2, BORDER + (POSE_SIDE - height) // 2))
    draw_text(tile, BORDER, POSE_SIDE + 2 * BORDER, f"{name}: {count_people(len(people))}", INK)
    return tile


def count_people(number: int) -> str:
    """`1 person` or `2 people`."""
    return plural(number, "person", "people")


def draw_person(pen: ImageDraw.ImageDraw, joints: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw lines and joints of one person, float [17, 3]: x, y in pixels of the resized image, score."""
    shown = joints[:, 2] > MIN_JOINT_SCORE
    for one, other in SKELETON:
        if shown[one] and shown[other]:
            pen.line([*map(float, joints[one, :2]), *map(float, joints[other, :2])], fill=colour, width=2)
    for x, y, score in joints[shown]:
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour if score > FILLED_JOINT_SCORE else PAPER, outline=colour)


def colours(count: int) -> list[tuple[int, int, int]]:
    """`count` bright colours; consecutive colours have very different hues."""
    hues = [(0.58 + 0.382 * number) % 1.0 for number in range(count)]
    return [
        (int(255 * r), int(255 * g), int(255 * b)) for r, g, b in (colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)
    ]
