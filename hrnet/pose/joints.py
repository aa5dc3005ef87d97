"""COCO's 17 joints: their order in the heatmaps, their order in flipped images, and the order of grouping."""

from __future__ import annotations

from hrnet.io import coco

NAMES = coco.NAMES
COUNT = coco.JOINTS

# FLIPPED[k]: the joint that is found at the position of joint k after a flip (left <-> right).
FLIPPED = (0, *(k + 1 if k % 2 else k - 1 for k in range(1, COUNT)))

# The order in which joints are grouped: from head and trunk outwards, since their tags are the most reliable.
GROUPING_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)

# Pairs of joints to connect in a drawing: COCO's skeleton.
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
