"""COCO's 17 joints: their order in the heatmaps, which change places in a mirror, in what order people are built."""

from __future__ import annotations

NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
COUNT = len(NAMES)

# FLIPPED[k]: the joint that stands in a mirrored image where joint k stands.
FLIPPED = tuple(
    NAMES.index({"l": "right_", "r": "left_"}[name[0]] + name.split("_")[1]) if "_" in name else k
    for k, name in enumerate(NAMES)
)

# People are built from the head and the trunk outwards: the surest tags first.
GROUPING_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)

# Pairs of joints to draw a line between: COCO's own skeleton.
SKELETON = (
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (6, 8),
    (7, 9),
    (8, 10),
    (1, 2),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (3, 5),
    (4, 6),
)
