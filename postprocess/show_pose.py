"""The first images of a pose run as a picture: each with the skeletons of its people.

    python -m postprocess.show_pose --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --keypoints build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json
        --dataset data/coco --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/show.png

Reads    the manifest, the keypoints, and the photographs themselves
Writes   a PNG: one tile for each image, in the manifest's order; each person in a colour of its own, joints that the
         network holds for sure filled
"""

from __future__ import annotations

import argparse
import colorsys
import sys
from collections import defaultdict
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hrnet.cli import UserError, command, integer
from hrnet.io.coco import JOINTS, read_keypoints
from hrnet.io.files import make_folder, replacing, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.runs import DecodeRecord
from hrnet.pose.joints import SKELETON
from postprocess.sheet import BORDER, INK, LINE, PAPER, draw_sheet, open_photograph

COUNT = 12
COLUMNS = 4
SIDE = 320  # of a photograph's place, pixels
TILE = (SIDE + 2 * BORDER, SIDE + 3 * BORDER + LINE)  # width, height
LEAST_PERSON = 0.1  # score from which a person is drawn
LEAST_JOINT = 0.05  # score from which a joint is drawn
SURE = 0.3  # score from which its dot is filled


def colours(count: int) -> list[tuple[int, int, int]]:
    """`count` bright colours, neighbours far apart on the wheel."""
    hues = [(0.58 + 0.382 * number) % 1.0 for number in range(count)]
    return [
        (int(255 * r), int(255 * g), int(255 * b)) for r, g, b in (colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)
    ]


def draw_person(pen: ImageDraw.ImageDraw, joints: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Bones and joints of float [17, 3]: x and y in pixels of the picture, score."""
    shown = joints[:, 2] > LEAST_JOINT
    for one, other in SKELETON:
        if shown[one] and shown[other]:
            pen.line([*map(float, joints[one, :2]), *map(float, joints[other, :2])], fill=colour, width=2)
    for x, y, score in joints[shown]:
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour if score > SURE else PAPER, outline=colour)


def draw_tile(photograph: Image.Image, name: str, people: list[np.ndarray]) -> Image.Image:
    """One photograph with its people (float [17, 3] in its pixels) and a line of text, TILE in size."""
    factor = SIDE / max(photograph.size)
    width, height = (max(1, round(side * factor)) for side in photograph.size)
    picture = photograph.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(picture)
    for joints, colour in zip(people, colours(len(people))):
        draw_person(pen, np.column_stack([joints[:, :2] * factor, joints[:, 2]]), colour)
    tile = Image.new("RGB", TILE, PAPER)
    tile.paste(picture, (BORDER + (SIDE - width) // 2, BORDER + (SIDE - height) // 2))
    text = f"{name}: {len(people)} {'person' if len(people) == 1 else 'people'}"
    ImageDraw.Draw(tile).text((BORDER, SIDE + 2 * BORDER), text, fill=INK, font=ImageFont.load_default())
    return tile


def run(manifest: Path, keypoints: Path, dataset: Path, output: Path, count: int) -> None:
    """Draw the first `count` images of `manifest` with the people of `keypoints`."""
    told, decoded = Manifest.read(manifest), DecodeRecord.read(keypoints)
    if decoded.manifest_sha256 != sha256_file(manifest):
        expected = f"those of {manifest}"
        raise UserError("was decoded from other inputs", where=keypoints, expected=expected, hint="run make eval")
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for person in read_keypoints(keypoints):
        if person["score"] > LEAST_PERSON:
            people[person["image_id"]].append(np.reshape(person["keypoints"], (JOINTS, 3)))
    tiles, drawn = [], 0
    for image in told.images[:count]:
        assert image.image_id is not None
        with open_photograph(dataset / image.source) as photograph:
            tiles.append(draw_tile(photograph, Path(image.source).stem, people[image.image_id]))
        drawn += len(people[image.image_id])
    make_folder(output.parent)
    with replacing(output) as temporary:
        draw_sheet(tiles, COLUMNS).save(temporary, format="PNG")
    told_people = f"{drawn} people of a score above {LEAST_PERSON}"
    print(f"wrote {output}: the first {len(tiles)} of {len(told.images)} images, {told_people}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.show_pose", description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--keypoints", type=Path, required=True, help="the people that postprocess.decode found")
    parser.add_argument("--dataset", type=Path, required=True, help="the folder that the manifest's sources lie in")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--count", type=integer(1), default=COUNT, help="how many images (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
