"""The first images of a run as a picture: each with its label and its five most probable classes.

    python -m postprocess.show --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json --dataset data/imagenet
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32/show.png

Reads    the manifest, the outputs that the run record lists, joined by stem, and the photographs themselves
Writes   a PNG: one tile for each image, in the manifest's order; a red frame where Top-1 is wrong
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from hrnet.cli import UserError, command, integer
from hrnet.io.files import make_folder, replacing, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.runs import RunRecord, output_folder
from postprocess.classification import TOP, label_offset, read_logits
from postprocess.sheet import BORDER, INK, LINE, PAPER, draw_sheet, open_photograph

COUNT = 24
COLUMNS = 6
SIDE = 160  # of a photograph's place, pixels
COLUMN = 40  # from the class to its probability
TILE = (SIDE + 2 * BORDER, SIDE + 3 * BORDER + (TOP + 1) * LINE)  # width, height
RIGHT, WRONG = "#2e7d32", "#c62828"


class Guess(NamedTuple):
    """A class and how probable the model holds it, 0 to 1."""

    label: int
    probability: float


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [C] of sum 1 from float [C]."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def guesses(logits: np.ndarray, offset: int) -> list[Guess]:
    """The most probable classes of float [C], best first, the lower index first among equals. `offset` 1: the first of
    C is a background class, told as -1."""
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    return [Guess(int(index) - offset, float(probabilities[index])) for index in best]


def draw_tile(photograph: Image.Image, label: int, best: list[Guess]) -> Image.Image:
    """One image with its text, TILE in size."""
    hit = best[0].label == label
    tile = Image.new("RGB", TILE, PAPER)
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default()
    pen.rectangle((0, 0, TILE[0] - 1, SIDE + 2 * BORDER - 1), fill=RIGHT if hit else WRONG)
    tile.paste(ImageOps.pad(photograph.convert("RGB"), (SIDE, SIDE), color=PAPER), (BORDER, BORDER))
    top = SIDE + 2 * BORDER
    head = f"label {label}" if hit else f"label {label}: WRONG"
    pen.text((BORDER, top), head, fill=RIGHT if hit else WRONG, font=font)
    for row, guess in enumerate(best, 1):
        colour = RIGHT if guess.label == label else INK
        pen.text((BORDER, top + row * LINE), str(guess.label), fill=colour, font=font)
        pen.text((BORDER + COLUMN, top + row * LINE), f"{guess.probability:.2%}", fill=colour, font=font)
    return tile


def run(manifest: Path, record: Path, dataset: Path, output: Path, count: int) -> None:
    """Draw the first `count` images of `manifest` with what the run of `record` says of them."""
    told, done = Manifest.read(manifest), RunRecord.read(record)
    if done.manifest_sha256 != sha256_file(manifest):
        raise UserError(
            "run was made from other inputs", where=record, expected=f"those of {manifest}", hint="run make infer"
        )
    folder, dtype = output_folder(record), done.outputs[0].dtype
    tiles, wrong = [], 0
    for image, label in zip(told.images[:count], told.labels()):
        if len(done.files.get(image.stem, [])) != 1:
            raise UserError(f"not one output of {image.stem}", where=record, hint=f"rm {record}; make infer")
        logits = read_logits([folder / done.files[image.stem][0]], dtype, 0, f"rm {record}; make infer")[0]
        best = guesses(logits, label_offset(logits.size, told.classes, record))
        with open_photograph(dataset / image.source) as photograph:
            tiles.append(draw_tile(photograph, label, best))
        wrong += best[0].label != label
    make_folder(output.parent)
    with replacing(output) as temporary:
        draw_sheet(tiles, COLUMNS).save(temporary, format="PNG")
    print(f"wrote {output}: the first {len(tiles)} of {len(told.images)} images, Top-1 wrong on {wrong}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.show", description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--run", dest="record", type=Path, required=True, help="the run record that infer left")
    parser.add_argument("--dataset", type=Path, required=True, help="the folder that the manifest's sources lie in")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--count", type=integer(1), default=COUNT, help="how many images (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
