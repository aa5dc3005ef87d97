"""A classification net small enough to build, export and run in a second; its config and its weights as files."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.seeded_checkpoint import calibrate
from hrnet.config import load_config
from hrnet.nets import checkpoint, classification

torch.set_num_threads(1)  # such small layers are slower by two threads, much so when another process wants the cores

CLASSES = 7
SIDE = 64  # of its input, pixels

CONFIG = f"""
MODEL:
  NUM_CLASSES: {CLASSES}
  IMAGE_SIZE: [{SIDE}, {SIDE}]
  EXTRA:
    STEM_INPLANES: 8
    STAGE1: {{NUM_BLOCKS: [1], NUM_CHANNELS: [4]}}
    STAGE2: {{NUM_BLOCKS: [1, 1], NUM_CHANNELS: [4, 8]}}
    STAGE3: {{NUM_MODULES: 1, NUM_BLOCKS: [1, 1, 1], NUM_CHANNELS: [4, 8, 16]}}
    STAGE4: {{NUM_MODULES: 1, NUM_BLOCKS: [1, 1, 1, 1], NUM_CHANNELS: [4, 8, 16, 32]}}
    HEAD: {{CHANNELS: [2, 4, 6, 8], FEATURES: 24}}
INPUT:
  RESIZE: 80
"""


def write_config(folder: Path) -> Path:
    """The config as a file."""
    path = folder / "tiny.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def build(folder: Path) -> classification.ClassificationNet:
    """The net in evaluation mode, with batch norm calibrated on noise so that its values keep their scale."""
    torch.manual_seed(0)
    net = classification.build(load_config(write_config(folder)))
    calibrate(net, torch.randn(16, 3, SIDE, SIDE))
    return net


def write_weights(folder: Path) -> Path:
    """The net's state dict as a file."""
    path = folder / "tiny.pth"
    checkpoint.save(build(folder), path)
    return path
