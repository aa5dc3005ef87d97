"""The sizes of a data set's images -> the few gears that waste least on them, as a YAML for --gears or INPUT.GEARS.

    python -m data.gears --cfg higher_hrnet_w32_512 --dataset data/coco --gears 4 --output gears.yaml

Reads    widths and heights in annotations/person_keypoints_<split>.json, DATASET.INPUT_SIZE and TEST of the config
Writes   GEARS: [[height, width], …]

An image takes the smallest gear that holds it whole (hrnet/gears.py), and a gear costs its pixels. Which K sizes cost
least is found exactly: sorted by their long sides, the images of a gear stand together, so the best cut into K groups
follows from the best cuts into K - 1 (dynamic programming), for lying and upright images and then for both.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import command, integer
from hrnet.config import config_path, load_config
from hrnet.gears import MOST_GEARS, STEP, Gear, choose, rounded_up, short_side, whole_size, write_gears
from hrnet.io.coco import annotation_path, read_images
from hrnet.io.files import make_folder
from hrnet.schemas import POSE

SEED_LONG = 2  # the seed's longest gears, long side by short side: beyond it images are cut
COUNT = 4  # ATC's documentation advises 3 to 4 gears, for speed and memory

Cover = tuple[int, tuple[int, ...]]  # long sides times images, and the long sides


def seed_gears(short: int) -> list[Gear]:
    """The seed's own 17, or their like for another short side: each multiple of 64 up to twice the short side."""
    longs = range(short, SEED_LONG * short + 1, STEP)
    return sorted({*((long, short) for long in longs), *((short, long) for long in longs)})


def covers(sides: Mapping[int, int]) -> list[Cover]:
    """The cheapest way to give each image one of 1, 2, … long sides not below its own; `sides`: how many images have
    which."""
    longs = sorted(sides)
    best: list[Optional[Cover]] = [(0, ())] + [None] * len(longs)  # of the sides before the i-th, with so many gears
    found: list[Cover] = []
    for _ in range(len(longs) + 1):
        if best[-1] is not None:
            found.append(best[-1])
        best = [min(_grown(best, longs, sides, end), default=None) for end in range(len(longs) + 1)]
    return found


def _grown(best: list[Optional[Cover]], longs: list[int], sides: Mapping[int, int], end: int) -> Iterator[Cover]:
    """`best` covers with one gear more, which is the longest of the sides before `end`."""
    for begin, cover in enumerate(best[:end]):
        if cover is not None:
            images = sum(sides[side] for side in longs[begin:end])
            yield cover[0] + longs[end - 1] * images, (*cover[1], longs[end - 1])


def with_square(sides: Mapping[int, int], short: int) -> list[Cover]:
    """The cheapest covers, and the cheapest with the square gear, which lying and upright images share."""
    rest = {side: count for side, count in sides.items() if side != short}
    squares = [(cost + short * sides[short], (short, *longs)) for cost, longs in covers(rest)] if short in sides else []
    return covers(sides) + squares


def cheapest_gears(sizes: Sequence[tuple[int, int]], short: int, longest: int) -> dict[int, list[Gear]]:
    """How many gears -> the cheapest so many for images of `sizes` (width, height), those longer than `longest` cut."""
    sides: tuple[Counter[int], Counter[int]] = (Counter(), Counter())  # of lying and of upright images
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
    """What a set of gears costs for images."""

    pixels: int  # of all inputs
    border: float  # share of them that shows nothing
    cut: int  # images that lose both ends
    images: dict[Gear, int]


def waste(sizes: Sequence[tuple[int, int]], short: int, gears: Sequence[Gear]) -> Waste:
    """What `gears` cost for images of `sizes` (width, height), each of which has one that stands as it does."""
    chosen = [choose(width, height, short, gears) for width, height in sizes]
    counts = Counter(gear for gear in chosen if gear is not None)
    pixels = sum(height * width * count for (height, width), count in counts.items())
    longs = [short * max(size) / min(size) for size in sizes]
    shown = sum(min(long, max(gear)) * short for long, gear in zip(longs, chosen) if gear is not None)
    cut = sum(gear < whole_size(*size, short) for size, gear in zip(sizes, chosen) if gear is not None)
    return Waste(pixels, 1 - shown / pixels, cut, dict(counts))


def report(found: Waste, name: str, against: Waste) -> str:
    cost = 100 * found.pixels / against.pixels
    return f"{name:14}  {cost:8.1f}% of the pixels  {100 * found.border:5.1f}% black border  {found.cut:5} images cut"


def run(cfg: Path, folder: Path, count: int, longest: float, output: Optional[Path]) -> None:
    """Print what 1, 2, … gears cost on the images of `folder`, and write the best `count` of them."""
    config = load_config(cfg, POSE)
    short = short_side(config.DATASET.INPUT_SIZE, cfg)
    images = read_images(annotation_path(folder, config.DATASET.TEST))
    sizes = [(image.width, image.height) for image in images]
    best = cheapest_gears(sizes, short, rounded_up(longest * short))
    plain = waste(sizes, short, seed_gears(short))
    print(f"{len(sizes)} images, input size {short}; the seed's {len(seed_gears(short))} gears are 100%")
    print(report(plain, "the seed's", plain))
    for number in (number for number in best if number <= max(count, 6)):
        print(report(waste(sizes, short, best[number]), f"best {number}", plain))
    chosen = best[max(number for number in best if number <= count)]
    for gear, number in sorted(waste(sizes, short, chosen).images.items()):
        print(f"  {gear[0]:4} x {gear[1]:4}  {number:6} images")
    if len(chosen) < count:
        print(f"{len(chosen)} gears waste nothing that more could save")
    if output is not None:
        make_folder(output.parent)
        write_gears(output, chosen, f"height and width, the cheapest {len(chosen)} for {folder.name} (data.gears)")
        print(f"wrote {len(chosen)} gears to {output}")


def ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100, found {text!r}")
    return value


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.gears", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", default="higher_hrnet_w32_512", help="a name in configs/, or a YAML (%(default)s)")
    parser.add_argument("--dataset", type=Path, default=Path("data/coco"), help="COCO folder (%(default)s)")
    parser.add_argument(
        "--gears", type=integer(2), default=COUNT, help=f"how many to write, at most {MOST_GEARS} (%(default)s)"
    )
    parser.add_argument(
        "--longest",
        type=ratio,
        default=SEED_LONG,
        help="long side of a gear by its short side, at most; longer images are cut, as the seed's are (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help="the YAML to write")
    args = parser.parse_args(argv)
    if args.gears > MOST_GEARS:
        parser.error(f"--gears: atc takes at most {MOST_GEARS}")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(config_path(args.cfg), args.dataset, args.gears, args.longest, args.output)


if __name__ == "__main__":
    raise SystemExit(main())
