"""Synthetic people: figures with COCO's 17 joints, posed in 3D and drawn with clothes, faces and shading.

A figure has its own coordinates, in units of its height: x to the right of the image, y down, z towards the viewer, the
origin between the hips. There it faces the viewer; its left side is on the image's right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hrnet.pose.joints import COUNT

FACE = 5  # number of joints on the head; they are the first joints

# Lengths in units of the figure's height.
HIP, SHOULDER = 0.052, 0.100  # from the middle of the body
SPINE, NECK = 0.285, 0.395  # from the hips up to the shoulders, and to the centre of the head
UPPER_ARM, FOREARM, THIGH, SHIN = 0.160, 0.145, 0.240, 0.235
HEAD = (0.056, 0.074)  # half width and half height
ON_HEAD = ((0, 0.010, 0.066), (0.024, -0.012, 0.056), (-0.024, -0.012, 0.056), (0.056, 0.0, 0.0), (-0.056, 0.0, 0.0))

SKINS = ((141, 85, 36), (198, 134, 66), (224, 172, 105), (241, 194, 125), (255, 219, 172))  # RGB
HAIRS = ((20, 15, 12), (60, 35, 20), (110, 70, 35), (190, 150, 90), (120, 120, 120), (150, 60, 30))

CIRCLE = np.array([(math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 24, endpoint=False)])

# Body parts. A joint is visible if its pixel shows one of its PARTS_OF_JOINTS.
TRUNK, HEAD_PART, LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG = 1, 2, 3, 4, 5, 6
OCCLUDER = 9
PARTS_OF_JOINTS = (
    *((HEAD_PART,),) * FACE,
    (LEFT_ARM, TRUNK),
    (RIGHT_ARM, TRUNK),
    *((LEFT_ARM,), (RIGHT_ARM,)) * 2,
    (LEFT_LEG, TRUNK),
    (RIGHT_LEG, TRUNK),
    *((LEFT_LEG,), (RIGHT_LEG,)) * 2,
)

Colour = tuple[int, ...]  # RGB


class Clothes(NamedTuple):
    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    long_sleeves: bool
    long_trousers: bool
    striped: bool


@dataclass(frozen=True)
class Figure:
    """A figure in image coordinates."""

    points: np.ndarray  # float64 [17, 3]: x and y in pixels, z towards the viewer
    head: np.ndarray  # centre of the head, float64 [3]
    top: np.ndarray  # unit vector from chin to crown, float64 [3]
    towards: float  # direction of the face: 1 towards the viewer, -1 away
    size: float  # height, pixels
    clothes: Clothes


def rotation(axis: str, degrees: float) -> np.ndarray:
    """The rotation matrix about an axis, float64 [3, 3]."""
    angle = math.radians(degrees)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random pose, facing the viewer: joints [17, 3], centre [3] and rotation [3, 3] of the head."""
    spine = rotation("z", rng.normal(0, 7)) @ rotation("x", -abs(rng.normal(0, 9)))
    head_rotation = spine @ rotation("y", rng.normal(0, 18)) @ rotation("z", rng.normal(0, 6))
    head = spine @ (0, -NECK, 0)
    joints = np.zeros((COUNT, 3))
    joints[:FACE] = head + np.array(ON_HEAD) @ head_rotation.T

    gait = rng.choice(["stand", "walk", "sit", "wide"], p=[0.5, 0.25, 0.12, 0.13])
    stride = rng.choice([-1, 1]) * rng.uniform(12, 32)
    for side, k in ((1, 0), (-1, 1)):  # left, right: the left side is on the right of the image
        shoulder = spine @ (side * SHOULDER, -SPINE, 0)
        arm = rng.choice(["hang", "raise", "bend"], p=[0.5, 0.22, 0.28])
        away = {"hang": abs(rng.normal(10, 8)), "raise": rng.uniform(80, 165), "bend": rng.uniform(15, 60)}[arm]
        elbow = {"hang": rng.uniform(0, 25), "raise": rng.uniform(0, 80), "bend": rng.uniform(60, 125)}[arm]
        upper = spine @ rotation("z", -side * away) @ rotation("x", rng.normal(5, 18))
        lower = upper @ rotation("y", -side * rng.uniform(-20, 80)) @ rotation("x", elbow)
        joints[5 + k] = shoulder
        joints[7 + k] = shoulder + upper @ (0, UPPER_ARM, 0)
        joints[9 + k] = joints[7 + k] + lower @ (0, FOREARM, 0)

        away = {"stand": abs(rng.normal(4, 3)), "walk": 3, "sit": rng.uniform(5, 25), "wide": rng.uniform(12, 32)}[gait]
        ahead = {
            "stand": rng.normal(0, 6),
            "walk": side * stride,
            "sit": rng.uniform(65, 90),
            "wide": rng.normal(5, 10),
        }
        knee = {"stand": abs(rng.normal(3, 4)), "walk": rng.uniform(5, 40), "sit": rng.uniform(70, 95), "wide": 12}
        thigh = rotation("z", -side * away) @ rotation("x", ahead[gait])
        joints[11 + k] = (side * HIP, 0, 0)
        joints[13 + k] = joints[11 + k] + thigh @ (0, THIGH, 0)
        joints[15 + k] = joints[13 + k] + thigh @ rotation("x", -knee[gait]) @ (0, SHIN, 0)
    return joints, head, head_rotation


def dress(rng: np.random.Generator) -> Clothes:
    """Random clothes; shirt and trousers have different colours."""
    shirt = rng.integers(20, 236, 3)
    trousers = rng.integers(15, 180, 3)
    if np.abs(shirt - trousers).sum() < 120:
        trousers = (shirt + 110) % 200
    return Clothes(
        colour_of(np.array(SKINS[rng.integers(len(SKINS))]) + rng.integers(-8, 9)),
        colour_of(np.array(HAIRS[rng.integers(len(HAIRS))])),
        colour_of(shirt),
        colour_of(trousers),
        colour_of(rng.integers(10, 120, 3)),
        bool(rng.random() < 0.5),
        bool(rng.random() < 0.65),
        bool(rng.random() < 0.25),
    )


def make_figure(rng: np.random.Generator, x: float, y: float, size: float) -> Figure:
    """A random figure with a height of `size` pixels and the hips at (x, y)."""
    joints, head, head_rotation = pose(rng)
    from_behind = rng.random() < 0.2
    body = rotation("z", rng.normal(0, 4)) @ rotation("y", rng.normal(180 if from_behind else 0, 28)) * size
    hips = np.array([x, y, 0.0])
    towards = body @ head_rotation @ (0, 0, 1) / size
    top = body @ head_rotation @ (0, -1, 0) / size
    return Figure(joints @ body.T + hips, body @ head + hips, top, float(towards[2]), size, dress(rng))


# --- drawing ----------------------------------------------------------------------------------------------------------


class Canvas:
    """An image, and for each pixel the figure and the body part that it shows."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image  # uint8 [H, W, 3]
        self.owner: np.ndarray = np.full(image.shape[:2], -1, np.int32)  # number of the figure; -1: none
        self.part: np.ndarray = np.zeros(image.shape[:2], np.int32)

    def fill(self, outline: np.ndarray, colour: Colour, owner: int, part: int) -> None:
        """Fill a convex outline, float [N, 2] in pixels."""
        points = np.rint(outline * 16).astype(np.int32)
        cv2.fillConvexPoly(self.image, points, colour, cv2.LINE_AA, 4)
        pixels = np.rint(outline).astype(np.int32)
        cv2.fillConvexPoly(self.owner, pixels, owner)
        cv2.fillConvexPoly(self.part, pixels, part)


def hull(circles: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """The convex outline of circles, float [N, 2]; a circle is a centre (x, y) and a radius."""
    points = np.concatenate([np.asarray(middle)[:2] + radius * CIRCLE for middle, radius in circles])
    outline: np.ndarray = cv2.convexHull(points.astype(np.float32))[:, 0]
    return outline


def shade(colour: Colour, factor: float) -> Colour:
    return colour_of(np.array(colour) * factor)


def colour_of(values: np.ndarray) -> Colour:
    return tuple(np.clip(values, 0, 255).astype(int).tolist())


def draw(canvas: Canvas, figure: Figure, owner: int) -> None:
    """Draw a figure, from its farthest part to its nearest part."""
    p, size = figure.points, figure.size
    depths = {
        LEFT_ARM: p[[7, 9], 2].mean(),
        RIGHT_ARM: p[[8, 10], 2].mean(),
        LEFT_LEG: p[13, 2] - 0.07 * size,  # in front of the shirt only if the leg is raised
        RIGHT_LEG: p[14, 2] - 0.07 * size,
        TRUNK: p[[5, 6, 11, 12], 2].mean(),
    }
    depths[HEAD_PART] = max(figure.head[2], depths[TRUNK] + 0.01 * size)
    for part in sorted(depths, key=lambda part: depths[part]):
        if part == TRUNK:
            _draw_trunk(canvas, figure, owner)
        elif part == HEAD_PART:
            _draw_head(canvas, figure, owner)
        elif part in (LEFT_ARM, RIGHT_ARM):
            _draw_arm(canvas, figure, owner, part)
        else:
            _draw_leg(canvas, figure, owner, part)


def _solid(canvas: Canvas, circles: list[tuple[np.ndarray, float]], colour: Colour, owner: int, part: int) -> None:
    """Draw a shape with a dark edge and light from the upper left."""
    edge = max(0.6, 0.035 * max(radius for _, radius in circles) + 0.4)
    canvas.fill(hull([(middle, radius + edge) for middle, radius in circles]), shade(colour, 0.55), owner, part)
    canvas.fill(hull(circles), colour, owner, part)
    lit = [(middle[:2] - 0.22 * radius, 0.55 * radius) for middle, radius in circles]
    canvas.fill(hull(lit), shade(colour, 1.14), owner, part)


def _draw_arm(canvas: Canvas, figure: Figure, owner: int, part: int) -> None:
    k = 0 if part == LEFT_ARM else 1
    shoulder, elbow, wrist = (figure.points[joint + k] for joint in (5, 7, 9))
    size, clothes = figure.size, figure.clothes
    lower = clothes.shirt if clothes.long_sleeves else clothes.skin
    hand = wrist + (wrist - elbow) * 0.16
    _solid(canvas, [(wrist, 0.017 * size), (hand, 0.022 * size)], clothes.skin, owner, part)
    _solid(canvas, [(elbow, 0.024 * size), (wrist, 0.018 * size)], lower, owner, part)
    _solid(canvas, [(shoulder, 0.034 * size), (elbow, 0.026 * size)], clothes.shirt, owner, part)


def _draw_leg(canvas: Canvas, figure: Figure, owner: int, part: int) -> None:
    k = 0 if part == LEFT_LEG else 1
    hip, knee, ankle = (figure.points[joint + k] for joint in (11, 13, 15))
    size, clothes = figure.size, figure.clothes
    lower = clothes.trousers if clothes.long_trousers else clothes.skin
    toe = ankle + np.array([(ankle - knee)[0] * 0.1 + (0.015 if k == 0 else -0.015) * size, 0.028 * size, 0])
    _solid(canvas, [(ankle, 0.022 * size), (toe, 0.024 * size)], clothes.shoes, owner, part)
    _solid(canvas, [(knee, 0.034 * size), (ankle, 0.022 * size)], lower, owner, part)
    _solid(canvas, [(hip, 0.050 * size), (knee, 0.036 * size)], clothes.trousers, owner, part)


def _draw_trunk(canvas: Canvas, figure: Figure, owner: int) -> None:
    p, size, clothes = figure.points, figure.size, figure.clothes
    middle = (p[5] + p[6]) / 2
    _solid(canvas, [(middle, 0.028 * size), (figure.head, 0.026 * size)], clothes.skin, owner, TRUNK)  # the neck
    _solid(canvas, [(p[11], 0.048 * size), (p[12], 0.048 * size)], clothes.trousers, owner, TRUNK)
    waist = [p[11 + k] * 0.85 + p[5 + k] * 0.15 for k in (0, 1)]
    chest = [(p[5], 0.036 * size), (p[6], 0.036 * size), (waist[0], 0.044 * size), (waist[1], 0.044 * size)]
    _solid(canvas, chest, clothes.shirt, owner, TRUNK)
    if clothes.striped:
        for share in np.linspace(0.15, 0.75, 4):
            ends = [(p[5 + k] * (1 - share) + p[11 + k] * share, 0.010 * size) for k in (0, 1)]
            canvas.fill(hull(ends), shade(clothes.shirt, 0.7), owner, TRUNK)


def _draw_head(canvas: Canvas, figure: Figure, owner: int) -> None:
    size, clothes, head, top = figure.size, figure.clothes, figure.head, figure.top * figure.size
    wide, high = HEAD[0] * size, HEAD[1] * size
    ends = [(head - top * (high - wide) / size, wide * 0.9), (head + top * (high - wide) / size, wide)]
    for ear in (3, 4):
        if figure.points[ear, 2] > head[2] - 0.045 * size:
            _solid(canvas, [(figure.points[ear], 0.014 * size)], shade(clothes.skin, 0.92), owner, HEAD_PART)
    if figure.towards < 0:
        _solid(canvas, ends, clothes.hair, owner, HEAD_PART)
        return
    _solid(canvas, ends, clothes.skin, owner, HEAD_PART)
    # Hair covers the crown, and more of the head on the side away from the face.
    nose = figure.points[0]
    crown = head + top * (high * 0.60) / size - (nose - head) * 0.30
    nape = head + top * (high * 0.40) / size - (nose - head) * 0.70
    canvas.fill(hull([(crown, wide * 0.86), (nape, wide * 0.66)]), clothes.hair, owner, HEAD_PART)
    for eye in (1, 2):
        if figure.points[eye, 2] > head[2]:
            canvas.fill(hull([(figure.points[eye], 0.0115 * size)]), (245, 245, 245), owner, HEAD_PART)
            canvas.fill(hull([(figure.points[eye], 0.0060 * size)]), (25, 20, 20), owner, HEAD_PART)
    bridge = hull([(nose, 0.0075 * size), (nose - top * 0.02, 0.004 * size)])
    canvas.fill(bridge, shade(clothes.skin, 0.72), owner, HEAD_PART)
    mouth = nose - top * 0.028
    across = (figure.points[1] - figure.points[2]) * 0.35
    canvas.fill(hull([(mouth - across, 0.004 * size), (mouth + across, 0.004 * size)]), (150, 50, 55), owner, HEAD_PART)


def visibility(canvas: Canvas, figure: Figure, owner: int) -> np.ndarray:
    """COCO's visibility flags, int [17]: 2 visible, 1 occluded, 0 not labelled (outside the image, or on the far side
    of the figure's own head)."""
    height, width = canvas.owner.shape
    flags = np.zeros(COUNT, int)
    for joint, (x, y, z) in enumerate(figure.points):
        column, row = math.floor(x), math.floor(y)
        if not (0 <= column < width and 0 <= row < height):
            continue
        if joint < FACE and z < figure.head[2] - (0.045 if joint in (3, 4) else 0.0) * figure.size:
            continue
        seen = canvas.owner[row, column] == owner and canvas.part[row, column] in PARTS_OF_JOINTS[joint]
        flags[joint] = 2 if seen else 1
    return flags
