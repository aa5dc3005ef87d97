"""Choose the gears (input sizes) that waste the fewest pixels on the images of a data set.

    python -m data.gears --cfg higher_hrnet_w32_512 --dataset data/coco --gears 4 --output gears.yaml

Reads    widths and heights in annotations/person_keypoints_<split>.json (split: DATASET.TEST), DATASET.INPUT_SIZE
Writes   a YAML file that contains `GEARS: [[height, width], …]`, for preprocess.pose --gears or INPUT.GEARS in a config

An image uses the shortest gear that holds it, or else the longest one (hrnet/gears.py). Its cost is the number of
pixels of that gear. Dynamic programming finds the K gears of lowest total cost exactly: in the list of images sorted by
long side, the images of one gear are contiguous, so the best division into K groups follows from the best divisions
into K - 1 groups.
Gears for landscape and for portrait images are computed separately, then combined.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import command, integer, plural, real
from hrnet.config import add_cfg_argument, load_config
from hrnet.gears import MOST_GEARS, STEP, Gear, choose, round_up, short_side, whole_size, write_gears
from hrnet.io.coco import annotation_path, read_annotations
from hrnet.io.files import make_folder
from hrnet.schemas import POSE

LONGEST = 2.0  # long side / short side of the model zoo's longest gears; longer images are cropped
COUNT = 4  # ATC's documentation recommends 3 to 4 gears, for speed and memory

# A set of gears for all images: its cost (the long side of the gear of each image, summed over the images), and the
# long sides of the gears.
Cover = tuple[int, tuple[int, ...]]


def model_zoo_gears(short: int) -> list[Gear]:
    """The model zoo's gears: long sides in steps of 64 from `short` up to twice `short`. Its own list is for 512."""
    longs = range(short, int(LONGEST * short) + 1, STEP)
    return sorted({*((long, short) for long in longs), *((short, long) for long in longs)})


def covers(sides: Mapping[int, int]) -> list[Cover]:
    """The covers of lowest cost with 1, 2, … gears. The long side of an image is at most that of its gear. `sides`:
    {long side: number of images}."""
    longs = sorted(sides)
    best: list[Optional[Cover]] = [(0, ())] + [None] * len(longs)  # best[i]: for the first i sides
    found: list[Cover] = []
    for _ in range(len(longs) + 1):
        if best[-1] is not None:
            found.append(best[-1])
        best = [min(_extended(best, longs, sides, end), default=None) for end in range(len(longs) + 1)]
    return found


def _extended(best: list[Optional[Cover]], longs: list[int], sides: Mapping[int, int], end: int) -> Iterator[Cover]:
    """Covers of the first `end` sides: a cover in `best` with one more gear, for the longest of these sides."""
    for begin, cover in enumerate(best[:end]):
        if cover is not None:
            images = sum(sides[side] for side in longs[begin:end])
            yield cover[0] + longs[end - 1] * images, (*cover[1], longs[end - 1])


def with_square(sides: Mapping[int, int], short: int) -> list[Cover]:
    """The covers of lowest cost, then the covers of lowest cost among those with the square gear, which landscape and
    portrait images share."""
    rest = {side: count for side, count in sides.items() if side != short}
    squares = [(cost + short * sides[short], (short, *longs)) for cost, longs in covers(rest)] if short in sides else []
    return covers(sides) + squares


def cheapest_gears(sizes: Sequence[tuple[int, int]], short: int, longest: int) -> dict[int, list[Gear]]:
    """Number of gears -> the cheapest gears for images of `sizes` (width, height); images are cropped to `longest`."""
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
    """The cost of a set of gears for a list of images."""

    pixels: int  # of all inputs together
    border: float  # fraction of these pixels in black borders
    cropped: int  # images that are cropped at both ends
    images: dict[Gear, int]


def waste(sizes: Sequence[tuple[int, int]], short: int, gears: Sequence[Gear]) -> Waste:
    """The cost of `gears` for images of `sizes` (width, height). Each image needs a gear of its orientation."""
    chosen = [choose(width, height, short, gears) for width, height in sizes]
    counts = Counter(gear for gear in chosen if gear is not None)
    pixels = sum(height * width * count for (height, width), count in counts.items())
    longs = [short * max(size) / min(size) for size in sizes]
    shown = sum(min(long, max(gear)) * short for long, gear in zip(longs, chosen) if gear is not None)
    cropped = sum(gear < whole_size(*size, short) for size, gear in zip(sizes, chosen) if gear is not None)
    return Waste(pixels, 1 - shown / pixels, cropped, dict(counts))


def report(found: Waste, name: str, against: Waste) -> str:
    cost, border = 100 * found.pixels / against.pixels, 100 * found.border
    return f"{name:15}  {cost:8.1f}% of the pixels  {border:5.1f}% black border  {found.cropped:5} images cropped"


def run(args: argparse.Namespace) -> None:
    """Print the cost of 1, 2, … gears on the images of the data set, and write the best `--gears` gears."""
    config, count, output = load_config(args.cfg, POSE), args.gears, args.output
    short = short_side(config.DATASET.INPUT_SIZE, args.cfg)
    images = read_annotations(annotation_path(args.dataset, config.DATASET.TEST)).images
    sizes = [(image.width, image.height) for image in images]
    best = cheapest_gears(sizes, short, round_up(args.longest * short))
    zoo = model_zoo_gears(short)
    plain = waste(sizes, short, zoo)
    print(f"{plural(len(sizes), 'image')}, input size {short}; 100% is the cost of the model zoo's {len(zoo)} gears")
    print(report(plain, "the model zoo's", plain))
    for number in (number for number in best if number <= max(count, 6)):
        print(report(waste(sizes, short, best[number]), f"best {number}", plain))
    chosen = best[max(number for number in best if number <= count)]
    print("images of each gear, height x width:")
    for gear, number in sorted(waste(sizes, short, chosen).images.items()):
        print(f"  {gear[0]:4} x {gear[1]:4}  {plural(number, 'image')}")
    if len(chosen) < count:
        print(f"{plural(len(chosen), 'gear')} instead of {count}: more would not reduce the cost")
    if output is not None:
        make_folder(output.parent)
        title = f"height and width, the cheapest {len(chosen)} for {args.dataset.name} (data.gears)"
        write_gears(output, chosen, title)
        print(f"wrote {plural(len(chosen), 'gear')} to {output}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.gears", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, default="higher_hrnet_w32_512")
    parser.add_argument("--dataset", type=Path, default=Path("data/coco"), help="COCO directory (%(default)s)")
    counts = f"number of gears to write, at most {MOST_GEARS} (%(default)s)"
    parser.add_argument("--gears", type=integer(2, MOST_GEARS), default=COUNT, help=counts)
    longest = "largest aspect ratio of a gear; longer images are cropped, as in the model zoo (%(default)s)"
    parser.add_argument("--longest", type=real(1, 100), default=LONGEST, help=longest)
    parser.add_argument("--output", type=Path, help="the YAML file to write")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
