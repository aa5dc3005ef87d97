"""Networks for both tasks that can be built, exported and run in one second; their configs and weights as files."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.seeded_checkpoint import calibrate
from hrnet.config import load_config
from hrnet.nets import checkpoint, classification, pose
from hrnet.pose.joints import COUNT

torch.set_num_threads(1)  # two threads are slower for such small layers

CLASSES = 7
SIDE = 64  # of its input, pixels

_TRUNK = """
    STEM_INPLANES: 8
    STAGE1: {NUM_BLOCKS: [1], NUM_CHANNELS: [4]}
    STAGE2: {NUM_BLOCKS: [1, 1], NUM_CHANNELS: [4, 8]}
    STAGE3: {NUM_MODULES: 1, NUM_BLOCKS: [1, 1, 1], NUM_CHANNELS: [4, 8, 16]}
    STAGE4: {NUM_MODULES: 1, NUM_BLOCKS: [1, 1, 1, 1], NUM_CHANNELS: [4, 8, 16, 32]}
"""
CONFIG = f"""
MODEL:
  NUM_CLASSES: {CLASSES}
  IMAGE_SIZE: [{SIDE}, {SIDE}]
  EXTRA: {_TRUNK}
    HEAD: {{CHANNELS: [2, 4, 6, 8], FEATURES: 24}}
INPUT:
  RESIZE: 80
"""
JOINTS = COUNT
GEARS = [[96, 64], [64, 64], [64, 128]]
POSE_CONFIG = f"""
MODEL:
  NAME: pose_higher_hrnet
  NUM_JOINTS: {JOINTS}
  EXTRA: {_TRUNK}
    DECONV: {{NUM_CHANNELS: [6], NUM_BASIC_BLOCKS: 1}}
DATASET:
  INPUT_SIZE: {SIDE}
INPUT:
  GEARS: {GEARS}
"""


def write_config(folder: Path) -> Path:
    """The config as a file."""
    path = folder / "tiny.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def build(folder: Path) -> classification.ClassificationNet:
    """The net in evaluation mode, with batch norm calibrated on noise so that its values have a usual scale."""
    torch.manual_seed(0)
    net = classification.build(load_config(write_config(folder)))
    calibrate(net, [torch.randn(16, 3, SIDE, SIDE)])
    return net


def write_weights(folder: Path) -> Path:
    """The net's state dict as a file."""
    path = folder / "tiny.pth"
    checkpoint.save(build(folder), path)
    return path


def write_pose_config(folder: Path) -> Path:
    path = folder / "tiny_pose.yaml"
    decoding = "TEST: {NMS_KERNEL: 5, NMS_PADDING: 2, PROJECT2IMAGE: true}\n"
    path.write_text(POSE_CONFIG + decoding, encoding="utf-8")
    return path


def build_pose(folder: Path) -> pose.PoseNet:
    """As `build`, with maps whose values are about 1."""
    torch.manual_seed(0)
    net = pose.build(load_config(write_pose_config(folder)))
    for layer in net.final_layers:
        torch.nn.init.normal_(layer.weight, std=0.5)
    calibrate(net, [torch.randn(8, 3, SIDE, SIDE)])
    return net


def write_pose_weights(folder: Path) -> Path:
    path = folder / "tiny_pose.pth"
    checkpoint.save(build_pose(folder), path)
    return path
