"""Which model of configs/ a checkpoint belongs to, by the names and shapes of its weights; used in error messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hrnet.config import CONFIGS, load_config
from hrnet.nets import classification, pose
from hrnet.schemas import CLASSIFICATION, POSE

WIDTH = "stage2.0.fuse_layers.0.1.0.weight"  # [channels of the first branch, ...]: selects the configs to compare with
CLASSES = "classifier.weight"  # [classes, features]
COUNT = "num_batches_tracked"


def models_of(state: Mapping[str, Any]) -> list[str]:
    """The names of the configs whose network has exactly these weights. A classifier with another number of classes is
    named `hrnet_w18 with 10 classes`. Builds a few nets without memory for their weights: about a second."""
    shapes = shapes_of(state)
    found = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        config = load_config(path, CLASSIFICATION, POSE)
        if shapes.get(WIDTH, [0])[0] != config.MODEL.EXTRA.STAGE2.NUM_CHANNELS[0]:
            continue
        with torch.device("meta"):
            # Not build(): to set initial weights on the meta device, torch would import its compiler
            is_pose = config.MODEL.NAME == POSE
            net = pose.PoseNet(config) if is_pose else classification.ClassificationNet(config.MODEL)
            wanted = shapes_of(net.state_dict())
        different = {key for key in {*shapes, *wanted} if shapes.get(key) != wanted.get(key)}
        if not different:
            found.append(path.stem)
        elif shapes.keys() == wanted.keys() and different <= {CLASSES, "classifier.bias"}:
            found.append(f"{path.stem} with {shapes[CLASSES][0]} classes")
    return found


def shapes_of(state: Mapping[str, Any]) -> dict[str, list[int]]:
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    return {key: list(value.shape) for key, value in tensors.items() if not key.endswith(COUNT)}
