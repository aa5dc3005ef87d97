"""Find the missing joints of a person by searching the whole map.

A missing joint gets the pixel with the highest score: the heatmap value minus the rounded distance between the pixel's
tag and the person's mean tag. The network's outputs give an upper bound of the score in each block of 4 x 4 pixels.
Exact scores are computed first in the most promising blocks, then only in blocks with a bound that reaches the best
score so far.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/group.py (refine).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from hrnet.pose.maps import Maps
from hrnet.pose.peaks import subpixel_positions

BLOCK = 4  # pixels, one cell of output1
AROUND = np.ones((3, 3), np.uint8)
FIRST = 16  # strips of the map; the most promising block of each is computed first
ENDS = (64, 320, 1344)  # blocks of a joint computed by the end of each round; if more remain, the whole map is faster
AT_ONCE = 20000  # blocks computed at once, to limit the memory


class Bounds:
    """Upper bounds and estimates of one joint's scores in each block; arrays float32 [blocks], row by row."""

    def __init__(self, maps: Maps, mean: np.ndarray, joint: int) -> None:
        """mean: float32 [H/2, W/2], the joint's map of `Maps.mean`. A tag in a block is between the lowest and the
        highest tag of the 3 x 3 cells around it."""
        full = cv2.resize(mean, (maps.width, maps.height), interpolation=cv2.INTER_LINEAR)
        rows = np.maximum.reduce([full[i::BLOCK] for i in range(BLOCK)])
        highest = np.maximum.reduce([rows[:, i::BLOCK] for i in range(BLOCK)])
        self.highest = highest.reshape(-1) + np.float32(maps.error)
        tags, error = maps.low_tags(joint), np.float32(maps.tag_error)
        self.tags = [tag.reshape(-1) for tag in tags]
        self.least = [cv2.erode(tag, AROUND).reshape(-1) - error for tag in tags]
        self.most = [cv2.dilate(tag, AROUND).reshape(-1) + error for tag in tags]

    def first(self, centre: np.ndarray) -> np.ndarray:
        """int64 [FIRST]: the block with the highest estimate in each strip. centre: float32 [D], a person's tag."""
        estimates = self.highest - _rounded_distance([tag - own for tag, own in zip(self.tags, centre)])
        strips = estimates.reshape(FIRST, -1)
        return strips.argmax(axis=1) + np.arange(0, estimates.size, strips.shape[1])

    def reaching(self, score: float, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The blocks that may have a pixel with at least `score`, int64 [M], and their upper bounds, float32 [M].
        centre: float32 [D], a person's tag."""
        blocks = np.flatnonzero(self.highest >= score)
        limits = zip(self.least, self.most, centre)
        gaps = [own - np.clip(own, least[blocks], most[blocks]) for least, most, own in limits]
        upper = self.highest[blocks] - _rounded_distance([gap * np.float32(1 - 1e-5) for gap in gaps])
        reaching = upper >= score
        return blocks[reaching], upper[reaching]


def _rounded_distance(differences: list[np.ndarray]) -> np.ndarray:
    return np.round(np.sqrt(sum(difference**2 for difference in differences)))


def scores(heat: np.ndarray, tags: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float32 [...]: heat [...] minus the rounded distance between tags [D, ...] and centres [D, ...]."""
    squares = (tags - centres) ** 2
    distances: np.ndarray = (squares[0] if len(squares) == 1 else squares[0] + squares[1]) ** 0.5
    return heat - np.round(distances)


def refine(maps: Maps, means: np.ndarray, people: np.ndarray) -> None:
    """Set x, y and heatmap value of the missing joints of people float32 [P, 17, 3 + D], in place; their tags stay 0. A
    joint stays missing if the heatmap at its best pixel is not above 0. means float32 [17, H/2, W/2]: `Maps.mean`."""
    who, joints = np.nonzero(people[:, :, 2] == 0)
    if not len(who):
        return
    centres = np.stack([person[person[:, 2] > 0, 3:].mean(axis=0) for person in people])
    xy = best_pixels(maps, means, joints, centres[who])
    x, y = xy.T
    values = maps.heat(joints, y // 4, x // 4, 1, 1)[np.arange(len(xy)), y % 4 + 1, x % 4 + 1]
    keep = values > 0
    people[who[keep], joints[keep], :2] = subpixel_positions(maps, joints, xy)[keep]
    people[who[keep], joints[keep], 2] = values[keep]


def best_pixels(maps: Maps, means: np.ndarray, joints: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 [N, 2]: x and y of the pixel with the highest score for each of joints [N] and centres float32 [N, D]; if
    scores are equal, the first pixel, row by row."""
    bounds = {joint: Bounds(maps, means[joint], joint) for joint in np.unique(joints)}
    each = np.arange(len(joints))
    first = np.concatenate([bounds[joint].first(centre) for joint, centre in zip(joints, centres)])
    best, pixel = best_of_blocks(maps, joints, centres, np.repeat(each, FIRST), first)
    remaining = []  # for each joint: blocks that may have a better pixel, and the bounds of these blocks, best first
    for i in each:
        blocks, upper = bounds[joints[i]].reaching(best[i], centres[i])
        promising = highest_indices(upper, ENDS[-1] + 1)
        remaining.append((blocks[promising], upper[promising]))
    begin = 0
    for end in ENDS:
        who = np.array([i for i in each if len(remaining[i][0]) > begin], np.int64)
        if not len(who):
            break
        taken = [remaining[i][0][begin:end] for i in who]
        owners = np.repeat(who, [len(blocks) for blocks in taken])
        score, at = best_of_blocks(maps, joints, centres, owners, np.concatenate(taken))
        better = (score > best[who]) | ((score == best[who]) & (at < pixel[who]))
        best[who[better]], pixel[who[better]] = score[better], at[better]
        for i in who:
            still = np.searchsorted(-remaining[i][1], -best[i], side="right")
            remaining[i] = (remaining[i][0][:still], remaining[i][1][:still])
        begin = end
    unfinished = np.array([len(blocks) > ENDS[-1] for blocks, _ in remaining])
    for joint in np.unique(joints[unfinished]):
        heat, tags = maps.whole_heat(joint), maps.whole_tags(joint)
        for i in each[unfinished & (joints == joint)]:
            pixel[i] = scores(heat, tags, centres[i][:, None, None]).argmax()
    return np.stack([pixel % maps.width, pixel // maps.width], axis=1)


def highest_indices(values: np.ndarray, most: int) -> np.ndarray:
    """int64: the indices of the `most` highest of values [N], or of all if they are fewer, highest first."""
    places = np.argpartition(-values, most)[:most] if most < len(values) else np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")]


def best_of_blocks(
    maps: Maps, joints: np.ndarray, centres: np.ndarray, owners: np.ndarray, blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The highest exact score, float32, and its pixel y * width + x, int64, for each owner. owners: int [M], ascending:
    for each of blocks [M], the index of its entry in joints [N] and centres [N, D]."""
    across = maps.width // BLOCK
    count = (maps.height // BLOCK) * across
    distinct, index = np.unique(joints[owners] * count + blocks, return_inverse=True)
    heat = np.empty((len(distinct), BLOCK, BLOCK), np.float32)
    tags = np.empty((maps.dimensions, len(distinct), BLOCK, BLOCK), np.float32)
    for part in _parts(len(distinct)):
        joint, block = np.divmod(distinct[part], count)
        windows = (joint, block // across, block % across, 1, 1)
        heat[part], tags[:, part] = maps.heat(*windows)[:, 1:-1, 1:-1], maps.tags(*windows)[:, :, 1:-1, 1:-1]
    score, pixel = np.empty(len(blocks), np.float32), np.empty(len(blocks), np.int64)
    for part in _parts(len(blocks)):
        found = scores(heat[index[part]], tags[:, index[part]], centres[owners[part]].T[:, :, None, None])
        found = found.reshape(-1, BLOCK * BLOCK)
        at = found.argmax(axis=1)
        score[part] = found[np.arange(len(found)), at]
        y, x = BLOCK * (blocks[part] // across) + at // BLOCK, BLOCK * (blocks[part] % across) + at % BLOCK
        pixel[part] = y * maps.width + x
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    highest = np.maximum.reduceat(score, starts)
    is_highest = score == np.repeat(highest, np.diff(starts, append=len(owners)))
    return highest, np.minimum.reduceat(np.where(is_highest, pixel, maps.height * maps.width), starts)


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, AT_ONCE):
        yield slice(start, start + AT_ONCE)
