"""The sizes of a data set's images -> the few gears that waste least on them, as a YAML for --gears or INPUT.GEARS.

    python -m data.gears --cfg higher_hrnet_w32_512 --dataset data/coco --gears 4 --output gears.yaml

Reads    widths and heights in annotations/person_keypoints_<split>.json; DATASET.INPUT_SIZE and TEST of the config
Writes   GEARS: [[height, width], …]

An image takes the smallest gear that holds it whole (hrnet/gears.py), and a gear costs its pixels. The K cheapest sizes
are found exactly: sorted by long side, the images of a gear are contiguous, so the best cut into K groups follows from
the best cuts into K - 1 (dynamic programming), for landscape and portrait images and then for both.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import command, integer, real
from hrnet.config import add_cfg_argument, load_config
from hrnet.gears import MOST_GEARS, STEP, Gear, choose, round_up, short_side, whole_size, write_gears
from hrnet.io.coco import annotation_path, read_annotations
from hrnet.io.files import make_folder
from hrnet.schemas import POSE

LONGEST = 2.0  # long side of the model zoo's longest gears, in short sides; longer images are cut
COUNT = 4  # ATC's documentation recommends 3 to 4 gears, for speed and memory

Cover = tuple[int, tuple[int, ...]]  # long sides times images, and the long sides


def model_zoo_gears(short: int) -> list[Gear]:
    """The model zoo's 17 for 512, or the same rule for another short side: each multiple of 64 up to twice as long."""
    longs = range(short, int(LONGEST * short) + 1, STEP)
    return sorted({*((long, short) for long in longs), *((short, long) for long in longs)})


def covers(sides: Mapping[int, int]) -> list[Cover]:
    """The cheapest way to give each image one of 1, 2, … long sides not below its own; `sides`: long side -> number of
    images."""
    longs = sorted(sides)
    best: list[Optional[Cover]] = [(0, ())] + [None] * len(longs)  # for the sides before the i-th
    found: list[Cover] = []
    for _ in range(len(longs) + 1):
        if best[-1] is not None:
            found.append(best[-1])
        best = [min(_grown(best, longs, sides, end), default=None) for end in range(len(longs) + 1)]
    return found


def _grown(best: list[Optional[Cover]], longs: list[int], sides: Mapping[int, int], end: int) -> Iterator[Cover]:
    """The covers of `best` with one more gear, which is the longest of the sides before `end`."""
    for begin, cover in enumerate(best[:end]):
        if cover is not None:
            images = sum(sides[side] for side in longs[begin:end])
            yield cover[0] + longs[end - 1] * images, (*cover[1], longs[end - 1])


def with_square(sides: Mapping[int, int], short: int) -> list[Cover]:
    """The cheapest covers, and the cheapest with the square gear, which landscape and portrait images share."""
    rest = {side: count for side, count in sides.items() if side != short}
    squares = [(cost + short * sides[short], (short, *longs)) for cost, longs in covers(rest)] if short in sides else []
    return covers(sides) + squares


def cheapest_gears(sizes: Sequence[tuple[int, int]], short: int, longest: int) -> dict[int, list[Gear]]:
    """Number of gears -> the cheapest gears for images of `sizes` (width, height), cut where longer than `longest`."""
    sides: tuple[Counter[int], Counter[int]] = (Counter(), Counter())  # of landscape and of portrait images
    for width, height in sizes:
        sides[width < height][min(longest, max(whole_size(width, height, short)))] += 1
    best: dict[int, tuple[int, list[Gear]]] = {}
    for cost, widths in with_square(sides[0], short):
        for other_cost, heights in with_square(sides[1], short):
            gears = sorted({*((height, short) for height in heights), *((short, width) for width in widths)})
            found = (cost + other_cost, gears)
            best[len(gears)] = min(best.get(len(gears), found), found)
    return {count: gears for count, (_, gears) in sorted(best.items())}


class Waste(NamedTuple):
    """The cost of a set of gears for images."""

    pixels: int  # of all inputs
    border: float  # fraction of them that is black border
    cut: int  # images that lose both ends
    images: dict[Gear, int]


def waste(sizes: Sequence[tuple[int, int]], short: int, gears: Sequence[Gear]) -> Waste:
    """The cost of `gears` for images of `sizes` (width, height); each has a gear of its orientation."""
    chosen = [choose(width, height, short, gears) for width, height in sizes]
    counts = Counter(gear for gear in chosen if gear is not None)
    pixels = sum(height * width * count for (height, width), count in counts.items())
    longs = [short * max(size) / min(size) for size in sizes]
    shown = sum(min(long, max(gear)) * short for long, gear in zip(longs, chosen) if gear is not None)
    cut = sum(gear < whole_size(*size, short) for size, gear in zip(sizes, chosen) if gear is not None)
    return Waste(pixels, 1 - shown / pixels, cut, dict(counts))


def report(found: Waste, name: str, against: Waste) -> str:
    cost = 100 * found.pixels / against.pixels
    return f"{name:15}  {cost:8.1f}% of the pixels  {100 * found.border:5.1f}% black border  {found.cut:5} images cut"


def run(args: argparse.Namespace) -> None:
    """Print what 1, 2, … gears cost on the images of the data set, and write the best `--gears` of them."""
    config, count, output = load_config(args.cfg, POSE), args.gears, args.output
    short = short_side(config.DATASET.INPUT_SIZE, args.cfg)
    images = read_annotations(annotation_path(args.dataset, config.DATASET.TEST)).images
    sizes = [(image.width, image.height) for image in images]
    best = cheapest_gears(sizes, short, round_up(args.longest * short))
    zoo = model_zoo_gears(short)
    plain = waste(sizes, short, zoo)
    print(f"{len(sizes)} images, input size {short}; the model zoo's {len(zoo)} gears are 100%")
    print(report(plain, "the model zoo's", plain))
    for number in (number for number in best if number <= max(count, 6)):
        print(report(waste(sizes, short, best[number]), f"best {number}", plain))
    chosen = best[max(number for number in best if number <= count)]
    for gear, number in sorted(waste(sizes, short, chosen).images.items()):
        print(f"  {gear[0]:4} x {gear[1]:4}  {number:6} images")
    if len(chosen) < count:
        print(f"more than {len(chosen)} gears would not save anything")
    if output is not None:
        make_folder(output.parent)
        title = f"height and width, the cheapest {len(chosen)} for {args.dataset.name} (data.gears)"
        write_gears(output, chosen, title)
        print(f"wrote {len(chosen)} gears to {output}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.gears", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, default="higher_hrnet_w32_512")
    parser.add_argument("--dataset", type=Path, default=Path("data/coco"), help="COCO folder (%(default)s)")
    counts = f"how many to write, at most {MOST_GEARS} (%(default)s)"
    parser.add_argument("--gears", type=integer(2, MOST_GEARS), default=COUNT, help=counts)
    longest = "largest ratio of a gear's sides; longer images are cut, as in the model zoo (%(default)s)"
    parser.add_argument("--longest", type=real(1, 100), default=LONGEST, help=longest)
    parser.add_argument("--output", type=Path, help="the YAML to write")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
