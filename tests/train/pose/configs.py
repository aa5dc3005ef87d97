"""The DATASET section of a pose config, with the keys that a test changes."""

from __future__ import annotations

from yacs.config import CfgNode

from hrnet import schemas


def dataset(**keys: object) -> CfgNode:
    node = schemas.pose().DATASET
    for key, value in keys.items():
        node[key] = value
    return node
