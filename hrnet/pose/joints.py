"""COCO's 17 joints: their order in the heatmaps, which change places in a flip, in what order people are built."""

from __future__ import annotations

from hrnet.io import coco

NAMES = coco.NAMES
COUNT = coco.JOINTS

# FLIPPED[k]: the joint that stands in a flipped image where joint k stands.
FLIPPED = (0, *(k + 1 if k % 2 else k - 1 for k in range(1, COUNT)))

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
