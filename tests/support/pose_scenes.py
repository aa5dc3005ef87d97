"""Outputs like those of HigherHRNet, drawn for random people from a seed, without a network or images."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hrnet.pose.joints import COUNT, FLIPPED

MUCH = 0.05  # noise of a heatmap
SIGMA = 2.0  # of a joint's blob, cells of either output
KINDS = ("plain", "near", "sparse", "half", "steps", "clean", "noise")

# The joints of a person who faces the camera: x to the right and y downwards from the middle of the hips. Unit: the
# person's height.
FIGURE = np.array([
    (0.0, -0.45), (0.02, -0.47), (-0.02, -0.47), (0.05, -0.46), (-0.05, -0.46), (0.1, -0.33), (-0.1, -0.33),
    (0.14, -0.17), (-0.14, -0.17), (0.15, -0.02), (-0.15, -0.02), (0.06, 0.0), (-0.06, 0.0), (0.07, 0.23),
    (-0.07, 0.23), (0.07, 0.45), (-0.07, 0.45),
])  # fmt: skip
LIMBS = ((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16))  # from the trunk outwards


@dataclass(frozen=True)
class Scene:
    """People in an image of width x height pixels.

    xy float [P, 17, 2] in pixels; heights float [P, 17]: the heatmap's value at the joint, 0 for a joint that is not
    seen; tags float [P, 17, 2]: in the outputs for the image and for the flipped image.
    """

    width: int
    height: int
    xy: np.ndarray
    heights: np.ndarray
    tags: np.ndarray


def draw_people(random: np.random.Generator, count: int, width: int, height: int, kind: str = "plain") -> Scene:
    """`count` people at random; kind `near`: the tags of people are nearly equal; `sparse`: half of the joints are
    missing."""
    size = height * random.uniform(0.25, 0.9, (count, 1, 1))
    figures = FIGURE * random.choice([-1, 1], (count, 1, 1)) ** np.array([1, 0]) * size  # some seen from behind
    for root, middle, end in LIMBS:
        for joint, parent in ((middle, root), (end, middle)):
            bone = (FIGURE[joint] - FIGURE[parent]) * size[:, 0]
            turn = random.normal(0, 0.7, count)
            turned = [
                np.cos(turn) * bone[:, 0] - np.sin(turn) * bone[:, 1],
                np.sin(turn) * bone[:, 0] + np.cos(turn) * bone[:, 1],
            ]
            figures[:, joint] = figures[:, parent] + np.stack(turned, axis=1)
    xy = figures + random.uniform(0.1, 0.9, (count, 1, 2)) * (width, height)
    heights = random.uniform(0.15, 1.0, (count, COUNT))
    inside = ((xy >= 0) & (xy < (width, height))).all(axis=2)
    heights *= inside & (random.random((count, COUNT)) > (0.5 if kind == "sparse" else 0.1))
    apart = 0.45 if kind == "near" else 1.5
    tags = apart * random.permutation(count)[:, None, None] + random.normal(0, 0.15, (count, COUNT, 2))
    return Scene(width, height, xy, heights, tags)


def flip(scene: Scene) -> Scene:
    """The flipped scene: left and right joints are exchanged."""
    order = list(FLIPPED)
    xy = scene.xy[:, order] * (-1, 1) + (scene.width - 1, 0)
    return Scene(scene.width, scene.height, xy, scene.heights[:, order], scene.tags[:, order, ::-1])


def render(scene: Scene, random: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """output1 float32 [1, 34, H/4, W/4] and output2 float32 [1, 17, H/2, W/2] of a scene."""
    low, tags = _maps(scene, 4, random, noise)
    high, _ = _maps(scene, 2, random, noise)
    return np.concatenate([low, tags])[None], high[None]


def _maps(scene: Scene, cell: int, random: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """float32 heatmaps and tags [17, H/cell, W/cell]. In blobs, each cell has the tag of the blob that is highest
    there; elsewhere tags change slowly, or are random if there is much noise."""
    shape = (COUNT, scene.height // cell, scene.width // cell)
    heat = noise * random.standard_normal(shape, np.float32)
    tags = np.zeros(shape, np.float32)
    if noise:
        spread = np.abs(scene.tags).max(initial=1) * random.standard_normal(
            (COUNT, 8, 8) if noise < MUCH else shape, np.float32
        )
        tags += np.stack([cv2.resize(each, shape[:0:-1], interpolation=cv2.INTER_LINEAR) for each in spread])
    blobs = np.zeros(shape, np.float32)
    reach = int(4 * SIGMA)
    for person, joint in zip(*np.nonzero(scene.heights)):
        x, y = scene.xy[person, joint] / cell
        rows = slice(max(int(y) - reach, 0), int(y) + reach + 1)
        columns = slice(max(int(x) - reach, 0), int(x) + reach + 1)
        v = np.arange(shape[1])[rows, None] - y
        u = np.arange(shape[2])[None, columns] - x
        blob = scene.heights[person, joint] * np.exp(-(u**2 + v**2) / (2 * SIGMA**2))
        seen = blobs[joint, rows, columns]
        higher = (blob > seen) & (blob > 0.02)
        seen[higher] = blob[higher]
        tag = scene.tags[person, joint, 0] + noise * random.standard_normal(blob.shape)
        tags[joint, rows, columns][higher] = tag[higher]
    return heat + blobs, tags


Outputs = tuple[np.ndarray, np.ndarray]


def outputs_of(
    seed: int, count: int, width: int = 512, height: int = 512, kind: str = "plain"
) -> tuple[Outputs, Outputs]:
    """Outputs for an image of `count` people and for the flipped image.

    kind: plain; near, sparse (`draw_people`); half: rounded to float16, as an NPU gives them; steps: rounded to steps
    of 1/16, so that there are plateaus and equal peaks; clean: no noise; noise: much.
    """
    random = np.random.default_rng([seed, count, KINDS.index(kind)])
    scene = draw_people(random, count, width, height, kind)
    noise = {"clean": 0.0, "noise": MUCH}.get(kind, 0.01)
    pairs = [render(each, random, noise) for each in (scene, flip(scene))]
    if kind == "half":
        pairs = [
            (low.astype(np.float16).astype(np.float32), high.astype(np.float16).astype(np.float32))
            for low, high in pairs
        ]
    if kind == "steps":
        pairs = [(np.round(low * 16) / 16, np.round(high * 16) / 16) for low, high in pairs]
    return pairs[0], pairs[1]
