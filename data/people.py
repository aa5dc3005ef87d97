"""Write images of drawn people with annotated joints in COCO's layout: the data set of the pose demo.

    python -m data.people --output data/people --images 100 --seed 1
    python -m data.people --output data/people --images 2000 --seed 2 --split train2017
    python -m data.people --output data/demo_people --images 200 --scenes plain --size 128

Writes images/<split>/<id>.jpg and, last, annotations/person_keypoints_<split>.json: its presence means that the split
is complete. Equal --seed, --size and --scenes give equal bytes with equal versions of numpy, OpenCV and Pillow, also
for different splits: use another --seed for each split.

Like COCO, it contains images without people, people cut off by the image border, people occluded by other people or by
objects (joints of visibility 1), small people without labelled joints (num_keypoints 0), and crowds with one annotation
(iscrowd 1). With --scenes plain, each image shows one to three large people, mostly complete and with less overlap.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
from PIL import Image

from data.figures import OCCLUDER, Canvas, Colour, Figure, colour_of, draw, hull, make_figure, shade, visibility
from hrnet.cli import command, integer, plural, progress
from hrnet.io.coco import annotation_path
from hrnet.io.files import make_folder, replacing, write_text
from hrnet.pose.joints import COUNT, NAMES, SKELETON

SIZE = 256  # short side of the images, pixels
QUALITY = 92  # of the JPEGs
SUPERSAMPLING = 2  # images are drawn at twice their size and reduced, which smooths edges
ASPECTS = (4 / 3, 3 / 2, 1.78, 1.0, 2.1)  # long side divided by short side; COCO's are mostly 4:3
ASPECT_PROBABILITIES = (0.5, 0.26, 0.1, 0.08, 0.06)
PORTRAIT = 0.3  # fraction of portrait images
LEAST_JOINTS = 4  # a figure with fewer joints inside the image is not drawn; with fewer visible ones it has no labels
SMALL = 0.22  # fraction of the short side; joints of smaller people are not labelled
LINES = [[a + 1, b + 1] for a, b in SKELETON]  # COCO counts from 1
PERSON = {"supercategory": "person", "id": 1, "name": "person", "keypoints": NAMES, "skeleton": LINES}
OBJECT = -2  # owner of objects in front of people


class Kind(NamedTuple):
    """Parameters of a kind of scene. A range is (from, to)."""

    people: tuple[float, ...]  # probabilities of 0, 1, … people
    sizes: tuple[float, float]  # range of their heights, fraction of the short side
    across: tuple[float, float]  # range of their hips' x, fraction of the width
    down: tuple[float, float]  # range of their hips' y, fraction of the height
    apart: tuple[float, float]  # range of the distance to a neighbour, fraction of the neighbour's height
    far: float  # probability of a person far away
    crowd: float  # probability of a crowd
    objects: tuple[float, ...]  # probabilities of 0, 1, … objects in front of people


KINDS = {
    "varied": Kind(
        people=(0.1, 0.34, 0.26, 0.16, 0.09, 0.05),
        sizes=(0.32, 1.5),
        across=(-0.02, 1.02),
        down=(0.4, 0.75),
        apart=(0.12, 0.4),
        far=0.12,
        crowd=0.08,
        objects=(0.6, 0.3, 0.1),
    ),
    "plain": Kind(
        people=(0.0, 0.5, 0.35, 0.15),
        sizes=(0.65, 0.95),
        across=(0.15, 0.85),
        down=(0.46, 0.54),
        apart=(0.3, 0.55),
        far=0.0,
        crowd=0.0,
        objects=(1.0,),
    ),
}


class Scene(NamedTuple):
    image: np.ndarray  # uint8 [H, W, 3]
    people: list[dict[str, Any]]  # annotations without ids


def muted(rng: np.random.Generator, colourful: float) -> Colour:
    """A random colour, from grey (`colourful` 0) to unchanged random values (1)."""
    values = rng.integers(15, 241, 3)
    return colour_of(values * colourful + values.mean() * (1 - colourful))


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A wall, a floor and random objects, uint8 [height, width, 3]."""
    horizon = int(height * rng.uniform(0.35, 0.75))
    image = np.empty((height, width, 3), np.float32)
    for rows in (slice(0, horizon), slice(horizon, height)):
        ends = np.array([muted(rng, 0.35), muted(rng, 0.35)])[:, None]
        image[rows] = np.linspace(ends[0], ends[1], image[rows].shape[0])
    for grain in (6, 40):
        coarse = rng.normal(0, 1, (height // grain + 1, width // grain + 1)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None] * rng.uniform(2, 12)
    canvas = Canvas(image.clip(0, 255).astype(np.uint8))
    for _ in range(rng.integers(6, 24)):
        draw_object(canvas, rng, -1)
    return cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(0.4, 2.2))


def draw_object(canvas: Canvas, rng: np.random.Generator, owner: int) -> None:
    """Draw an object of random kind, position and colour."""
    height, width = canvas.owner.shape
    short = min(height, width)
    middle = rng.uniform((0, 0), (width, height))
    size = short * rng.uniform(0.03, 0.22)
    kind = rng.choice(["box", "disc", "stick", "wedge"])
    if kind == "stick":
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * short * rng.uniform(0.08, 0.4)
        outline = hull([(middle - reach, short * rng.uniform(0.006, 0.03)), (middle + reach, short * 0.012)])
    elif kind == "disc":
        outline = hull([(middle, size), (middle + rng.normal(0, size, 2), size)])
    else:
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)][: 4 if kind == "box" else 3])
        outline = (middle + corners * size * rng.uniform(0.4, 1.6, 2)).astype(np.float32)
    colour = muted(rng, rng.uniform(0.1, 0.9))
    canvas.fill(outline, shade(colour, 0.5), owner, OCCLUDER)
    canvas.fill(outline + (outline.mean(axis=0) - outline) * 0.06, colour, owner, OCCLUDER)


def place_figures(rng: np.random.Generator, width: int, height: int, kind: Kind) -> list[Figure]:
    """Random people, sorted by height, since larger people are in front of smaller ones; some are close together."""
    short = min(width, height)
    figures: list[Figure] = []
    for _ in range(rng.choice(len(kind.people), p=kind.people)):
        size = short * float(np.exp(rng.uniform(*np.log(kind.sizes))))
        x = rng.uniform(*kind.across) * width
        if figures and rng.random() < 0.45:
            near = figures[rng.integers(len(figures))]
            size = near.size * rng.uniform(0.8, 1.25)
            x = near.points[11:13, 0].mean() + rng.choice([-1, 1]) * near.size * rng.uniform(*kind.apart)
        y = height * rng.uniform(*kind.down) + max(0.0, size - short) * rng.uniform(-0.2, 0.4)
        figures.append(make_figure(rng, x, y, size))
    if rng.random() < kind.far:
        figures.append(make_figure(rng, rng.uniform(0, width), height * 0.45, short * rng.uniform(0.1, SMALL)))
    figures = [figure for figure in figures if joints_inside(figure, width, height) >= LEAST_JOINTS]
    return sorted(figures, key=lambda figure: figure.size)


def joints_inside(figure: Figure, width: int, height: int) -> int:
    x, y = figure.points[:, :2].T
    return int(((x >= 0) & (x < width) & (y >= 0) & (y < height)).sum())


def make_crowd(rng: np.random.Generator, width: int, height: int) -> list[Figure]:
    """7 to 13 small people side by side."""
    size = min(width, height) * rng.uniform(0.10, 0.18)
    middle, level = rng.uniform(0.2, 0.8) * width, height * 0.42
    steps = (np.arange(rng.integers(7, 14)) - 5) * size * 0.32
    return [make_figure(rng, middle + step, level + rng.normal(0, size * 0.1), size) for step in steps]


def draw_scene(rng: np.random.Generator, width: int, height: int, kind: Kind) -> Scene:
    """One image of `width` x `height` pixels, and the annotations of its people."""
    wide, high = width * SUPERSAMPLING, height * SUPERSAMPLING
    canvas = Canvas(background(rng, wide, high))
    crowd = make_crowd(rng, wide, high) if rng.random() < kind.crowd else []
    figures = place_figures(rng, wide, high, kind)
    for owner, figure in enumerate([*crowd, *figures]):
        draw(canvas, figure, owner)
    for _ in range(rng.choice(len(kind.objects), p=kind.objects)):
        draw_object(canvas, rng, OBJECT)
    people = [annotate(canvas, figure, owner, min(wide, high)) for owner, figure in enumerate(figures, len(crowd))]
    crowds = [annotate_crowd(canvas.owner[::SUPERSAMPLING, ::SUPERSAMPLING], len(crowd))] if crowd else []
    small = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    lit = small * rng.uniform(0.75, 1.15) + rng.normal(0, rng.uniform(1, 6), small.shape)
    found = [person for person in [*people, *crowds] if person is not None]
    return Scene(lit.clip(0, 255).astype(np.uint8), found)


def annotate(canvas: Canvas, figure: Figure, owner: int, short: int) -> Optional[dict[str, Any]]:
    """COCO's annotation of a figure; None if it is fully occluded."""
    mask = canvas.owner[::SUPERSAMPLING, ::SUPERSAMPLING] == owner
    if not mask.any():
        return None
    flags = visibility(canvas, figure, owner)
    if figure.size < SMALL * short or (flags == 2).sum() < LEAST_JOINTS:
        flags[:] = 0
    positions = np.round(figure.points[:, :2] / SUPERSAMPLING, 1) * (flags > 0)[:, None]
    keypoints = [value for (x, y), flag in zip(positions.tolist(), flags.tolist()) for value in (x, y, flag)]
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [contour.reshape(-1).tolist() for contour in contours if len(contour) > 2]
    return {
        "num_keypoints": int((flags > 0).sum()),
        "keypoints": keypoints,
        **_extent(mask),
        "segmentation": outlines,
        "iscrowd": 0,
    }


def annotate_crowd(owner: np.ndarray, count: int) -> Optional[dict[str, Any]]:
    """COCO's annotation of the first `count` figures as one crowd; the mask is run-length encoded by columns."""
    mask = (owner >= 0) & (owner < count)
    if not mask.any():
        return None
    column = np.concatenate([[False], mask.T.reshape(-1), [False]])
    changes = np.flatnonzero(column[1:] != column[:-1])
    lengths = np.diff([0, *changes, mask.size][: None if changes[-1] < mask.size else -1])
    counts = {"counts": lengths.tolist(), "size": list(mask.shape)}
    return {"num_keypoints": 0, "keypoints": [0] * 3 * COUNT, **_extent(mask), "segmentation": counts, "iscrowd": 1}


def _extent(mask: np.ndarray) -> dict[str, Any]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return {"area": int(mask.sum()), "bbox": [x, y, width, height]}


def image_size(rng: np.random.Generator, short: int) -> tuple[int, int]:
    """Random width and height of an image."""
    long = round(short * rng.choice(ASPECTS, p=ASPECT_PROBABILITIES))
    return (short, long) if rng.random() < PORTRAIT else (long, short)


def run(output: Path, split: str, seed: int, count: int, short: int, scenes: str) -> None:
    """Write `count` images and their annotations below `output`."""
    folder, index = make_folder(output / "images" / split), annotation_path(output, split)
    make_folder(index.parent)
    index.unlink(missing_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in progress(range(1, count + 1), total=count, unit="images"):
        rng = np.random.default_rng((seed, image_id))
        width, height = image_size(rng, short)
        scene = draw_scene(rng, width, height, KINDS[scenes])
        name = f"{image_id:012d}.jpg"
        with replacing(folder / name) as temporary:
            Image.fromarray(scene.image).save(temporary, format="JPEG", quality=QUALITY)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for person in scene.people:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, **person})
    info = {"description": "drawn people (data/people.py)", "seed": seed, "short_side": short, "scenes": scenes}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [PERSON]}
    write_text(index, json.dumps(content))
    labelled = sum(person["num_keypoints"] > 0 for person in annotations)
    print(f"wrote {plural(count, 'image')} with {plural(labelled, 'labelled person', 'labelled people')} to {folder}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.people", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/people"), help="output directory (%(default)s)")
    parser.add_argument("--split", default="val2017", choices=("val2017", "train2017"), help="split (%(default)s)")
    parser.add_argument("--images", type=integer(1), default=100, help="number of images (%(default)s)")
    parser.add_argument(
        "--seed", type=integer(0), default=1, help="random seed; give a different one for each split (%(default)s)"
    )
    parser.add_argument("--size", type=integer(64), default=SIZE, help="short side, pixels (%(default)s)")
    scenes = "plain: one to three large people; varied: like COCO (%(default)s)"
    parser.add_argument("--scenes", default="varied", choices=sorted(KINDS), help=scenes)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.output, args.split, args.seed, args.images, args.size, args.scenes)


if __name__ == "__main__":
    sys.exit(main())
