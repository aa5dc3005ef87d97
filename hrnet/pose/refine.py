"""The joints that a person lacks, looked for in the whole map.

A missing joint is put where its heatmap, less the rounded distance of the tag there from the person's mean tag, is
highest. The network's outputs bound the score of each block of 4 x 4 pixels from above; one block that promises much tells
what is to be exceeded, and exact values are computed in the few blocks whose bounds reach it.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/group.py (refine).
"""

from __future__ import annotations

from typing import Union

import cv2
import numpy as np

from hrnet.pose.maps import Maps
from hrnet.pose.peaks import between_pixels

BLOCK = 4  # pixels, one cell of output1
AROUND = np.ones((3, 3), np.uint8)
MANY = 500  # blocks from which on the whole map is less work
AT_ONCE = 20000  # blocks: 3 MB of each map


class Bounds:
    """What one joint's scores can be at most, and roughly are, in each block; arrays float32 [blocks], row by row."""

    def __init__(self, maps: Maps, mean: np.ndarray, joint: int) -> None:
        """mean float32 [H/2, W/2]: the joint's of `Maps.mean`. A pixel's value lies between those of the cells around."""
        near = cv2.dilate(mean, AROUND)
        rows = np.maximum(near[::2], near[1::2])
        self.highest = np.maximum(rows[:, ::2], rows[:, 1::2]).reshape(-1) + np.float32(maps.error)
        tags = maps.low_tags(joint)
        self.tags = [tag.reshape(-1) for tag in tags]
        self.least = [cv2.erode(tag, AROUND).reshape(-1) - np.float32(maps.tag_error) for tag in tags]
        self.most = [cv2.dilate(tag, AROUND).reshape(-1) + np.float32(maps.tag_error) for tag in tags]

    def rough(self, centre: np.ndarray) -> np.ndarray:
        """Each block's highest value, with the tag of its cell; centre float32 [D]."""
        return self.highest - _rounded_distance([tag - own for tag, own in zip(self.tags, centre)])

    def upper(self, centre: np.ndarray) -> np.ndarray:
        """No pixel of the block has a higher score; centre float32 [D]."""
        gaps = [own - np.clip(own, least, most) for least, most, own in zip(self.least, self.most, centre)]
        return self.highest - _rounded_distance([gap * np.float32(1 - 1e-5) for gap in gaps])


def _rounded_distance(differences: list[np.ndarray]) -> np.ndarray:
    return np.round(np.sqrt(sum(difference**2 for difference in differences)))


def scores(heat: np.ndarray, tags: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float32 [...]: heat [...] less the rounded distance of tags [..., D] from centres [..., D]."""
    distances: np.ndarray = ((tags - centres) ** 2).sum(axis=-1) ** 0.5
    return heat - np.round(distances)


def refine(maps: Maps, means: np.ndarray, people: np.ndarray) -> None:
    """Fill in place the missing joints of people float32 [P, 17, 3 + D]: x, y and height; their tags stay 0. A joint
    whose best pixel is not above 0 stays missing. means float32 [17, H/2, W/2]: `Maps.mean`."""
    who, joints = np.nonzero(people[:, :, 2] == 0)
    if not len(who):
        return
    centres = np.stack([person[person[:, 2] > 0, 3:].mean(axis=0) for person in people])
    xy = best_pixels(maps, means, joints, centres[who])
    x, y = xy.T
    values = maps.heat(joints, y // 4, x // 4, 1, 1)[np.arange(len(xy)), y % 4 + 1, x % 4 + 1]
    keep = values > 0
    people[who[keep], joints[keep], :2] = between_pixels(maps, joints, xy)[keep]
    people[who[keep], joints[keep], 2] = values[keep]


def best_pixels(maps: Maps, means: np.ndarray, joints: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 [N, 2]: x and y of the highest score of each of joints [N] for centres float32 [N, D]; of equal ones the
    first, row by row."""
    bounds = {joint: Bounds(maps, means[joint], joint) for joint in np.unique(joints)}
    each = np.arange(len(joints))
    guesses = np.array([bounds[joint].rough(centre).argmax() for joint, centre in zip(joints, centres)])
    reached, _ = best_of_blocks(maps, joints, centres, each, guesses)
    worth = [np.flatnonzero(bounds[joints[i]].upper(centres[i]) >= reached[i]) for i in each]
    place = np.empty(len(joints), np.int64)
    few = [i for i in each if len(worth[i]) <= MANY]
    if few:
        owners = np.repeat(few, [len(worth[i]) for i in few])
        place[few] = best_of_blocks(maps, joints, centres, owners, np.concatenate([worth[i] for i in few]))[1]
    for joint in np.unique(np.delete(joints, few)):
        heat, tags = (whole(maps, joint).reshape(maps.height * maps.width, -1) for whole in (Maps.whole_heat, Maps.whole_tags))
        for i in each[joints == joint]:
            if len(worth[i]) > MANY:
                place[i] = scores(heat[:, 0], tags, centres[i]).argmax()
    return np.stack([place % maps.width, place // maps.width], axis=1)


def best_of_blocks(
    maps: Maps, joints: np.ndarray, centres: np.ndarray, owners: np.ndarray, blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The highest exact score, float32, and its place y * width + x, int64, of each that owns blocks. owners int [M],
    rising: which of joints [N] and centres [N, D] each of blocks [M] is for."""
    count = (maps.height // BLOCK) * (maps.width // BLOCK)
    distinct, index = np.unique(joints[owners] * count + blocks, return_inverse=True)
    heat = np.empty((len(distinct), BLOCK, BLOCK), np.float32)
    tags = np.empty((len(distinct), BLOCK, BLOCK, maps.dimensions), np.float32)
    for start in range(0, len(distinct), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        joint, block = np.divmod(distinct[part], count)
        place = (joint, *np.divmod(block, maps.width // BLOCK), 1, 1)
        heat[part], tags[part] = maps.heat(*place)[:, 1:-1, 1:-1], maps.tags(*place)[:, 1:-1, 1:-1]
    found = scores(heat[index], tags[index], centres[owners][:, None, None])
    top, left = np.divmod(blocks, maps.width // BLOCK)
    inside = np.arange(BLOCK)
    y, x = (BLOCK * top[:, None, None] + inside[:, None], BLOCK * left[:, None, None] + inside)
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    highest = np.maximum.reduceat(found.max(axis=(1, 2)), starts)
    equal = found == np.repeat(highest, np.diff(starts, append=len(owners)))[:, None, None]
    places = np.where(equal, y * maps.width + x, maps.height * maps.width).min(axis=(1, 2))
    return highest, np.minimum.reduceat(places, starts)
