"""Make a checkpoint of any model without training: random weights with a seed, batch norm calibrated on images.

Reads    a config and the first images of a directory, in natural order; classification without --images: noise
Writes   a bare float32 state dict

    python -m benchmarks.seeded_checkpoint --cfg hrnet_w18 --images data/imagenet/val --output seeded/hrnet_w18.pth
    python -m benchmarks.seeded_checkpoint --cfg higher_hrnet_w32_512 --images data/coco/images/val2017 \\
        --output seeded/higher_hrnet_w32_512.pth

With only random weights the logits reach 1e8 and all images get the same class, so parity and fp16 results mean
nothing. After calibration the values of each layer have the scale of a trained network. The mean of the logits is
subtracted, so that the predicted class depends on the image. For pose models the channels of the last layers are
combined and scaled so that decoding finds people: all joints get nearly the same heatmap and nearly the same tag map.
Both are chosen so that their mean varies little between images; the heatmap's peaks exceed TEST.DETECTION_THRESHOLD.
These people do not correspond to people in the images.

Weights: He et al., https://arxiv.org/abs/1502.01852. Calibration: mean and variance of each layer's input, averaged
over batches, as torch.nn.BatchNorm2d does with momentum None.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate
from yacs.config import CfgNode

from benchmarks.calibration import calibrate
from hrnet import gears
from hrnet.cli import UserError, command, integer
from hrnet.config import add_cfg_argument, load_config
from hrnet.images import alignment, normalise, normalise_table, open_image, resize_align
from hrnet.io.files import natural_key
from hrnet.nets import checkpoint, classification, pose
from hrnet.schemas import POSE
from preprocess.decode import decode_as_cv2
from preprocess.folder import Rejection, read_image
from train.classification.reference import logits_of, prepare

BATCH = 16  # images; 16 images need about 1 GB with W64
NOISE = 4  # images of noise
SUFFIXES = (".jpeg", ".jpg", ".png")
OWN = 0.05  # the fraction of a joint's map that differs from the other joints' maps
HEAT, TAGS = (0.0, 0.06), (0.0, 1.0)  # mean and deviation; upstream's thresholds are 0.1 and 1


def centre(net: classification.ClassificationNet, logits: np.ndarray) -> None:
    """Subtract the mean of `logits`, float32 [N, classes], from the last bias, so that more than a few classes are
    predicted."""
    with torch.no_grad():
        net.classifier.bias.sub_(torch.from_numpy(logits.mean(axis=0)))


def list_images(folder: Path, count: int) -> list[Path]:
    """The first images of a directory in natural order, at most `count`. Raises UserError if it has none."""
    if not folder.is_dir():
        raise UserError("no such directory", where=folder)
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise UserError("no images", where=folder, expected=" or ".join(SUFFIXES))
    return sorted(paths, key=lambda path: natural_key(path.name))[:count]


def make_classification(config: CfgNode, paths: list[Path]) -> tuple[nn.Module, str]:
    """The network, and a description of its logits on the calibration images. Without images, batch norm is calibrated
    on noise, which is enough to measure speed."""
    net = classification.build(config)
    if not paths:
        width, height = config.MODEL.IMAGE_SIZE
        calibrate(net, [torch.randn(NOISE, 3, height, width)])
        return net, "to measure speed"

    def read(path: Path) -> np.ndarray:
        return prepare(open_image(path), config)

    calibrate(net, torch.from_numpy(np.stack([read(path) for path in paths])).split(BATCH))
    centre(net, np.concatenate(list(logits_of(net, paths, read, BATCH))))
    logits = np.concatenate(list(logits_of(net, paths, read, BATCH)))
    classes = np.unique(logits.argmax(axis=1)).size
    return net, f"logits up to {np.abs(logits).max():.2f}, {classes} classes are predicted"


def pose_input(path: Path, config: CfgNode) -> torch.Tensor:
    """Prepare an image like preprocess.pose: float32 [1, 3, H, W], where H x W is its gear."""
    pixels = read_image(path, decode_as_cv2)
    if isinstance(pixels, Rejection):
        raise UserError(pixels.reason, where=path)
    height, width = pixels.shape[:2]
    gear = gears.choose(width, height, config.DATASET.INPUT_SIZE, [(h, w) for h, w in config.INPUT.GEARS])
    if gear is None:
        raise UserError("no portrait (or no landscape) gear for this image", where=path)
    size = (gear[1], gear[0])
    resized = resize_align(pixels, *alignment(width, height, size), size)
    return torch.from_numpy(normalise(resized, normalise_table(config.INPUT.MEAN, config.INPUT.STD))[None])


def steadiest(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights [channels] for a sum of channels. They maximise the variance of the sum within an image divided by the
    variance of its mean between images. `maps`: [channels, pixels] for each image."""
    between = torch.cov(torch.stack([each.mean(dim=1) for each in maps], dim=1))
    within = torch.stack([torch.cov(each) for each in maps]).mean(dim=0)
    between += 1e-3 * within.diagonal().mean() * torch.eye(len(within), dtype=within.dtype)  # makes it invertible
    root = torch.linalg.cholesky(between)
    whitened = torch.linalg.solve(root, torch.linalg.solve(root, within).T)
    return torch.linalg.solve(root.T, torch.linalg.eigh(whitened).eigenvectors[:, -1])


def shape_maps(layer: nn.Conv2d, outputs: Sequence[torch.Tensor], joints: int) -> None:
    """Change a last layer so that decoding finds people: all joints get nearly the same map, with some peaks in each
    image. `outputs`: its outputs [1, channels, H, W] for some images."""
    weights, biases = [], []
    for start, (mean, deviation) in zip(range(0, layer.out_channels, joints), (HEAT, TAGS)):
        maps = [each[0, start : start + joints].flatten(1).double() for each in outputs]
        shared, everything = steadiest(maps), torch.cat(maps, dim=1)
        own = torch.diag(OWN / everything.std(dim=1))
        mix = shared / (shared @ everything).std() + own
        mix *= (deviation / (mix @ everything).std(dim=1))[:, None]
        weights.append(torch.tensordot(mix, layer.weight[start : start + joints].double(), 1))
        biases.append(mean - (mix @ everything).mean(dim=1))
    layer.weight.copy_(torch.cat(weights))
    layer.bias.copy_(torch.cat(biases))  # type: ignore[union-attr]


def mean_heat(outputs: Sequence[torch.Tensor], joints: int) -> torch.Tensor:
    """The joints' heatmaps, averaged over all outputs at the size of the last one."""
    size = outputs[-1].shape[2:]
    return torch.stack([interpolate(each[:, :joints], size, mode="bilinear") for each in outputs]).mean(dim=0)


def make_pose(config: CfgNode, paths: list[Path]) -> tuple[nn.Module, str]:
    """The network, and a description of its heatmaps on the calibration images."""
    net, joints = pose.build(config), config.MODEL.NUM_JOINTS
    inputs = [pose_input(path, config) for path in paths]
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for number, layer in enumerate(net.final_layers):
            calibrate(net, inputs)  # for each output, since the next one is computed from it
            shape_maps(layer, [net(each)[number] for each in inputs], joints)  # type: ignore[arg-type]
        highest = torch.cat([mean_heat(net(each), joints).amax(dim=(2, 3)) for each in inputs])
    passing = (highest > config.TEST.DETECTION_THRESHOLD).float().mean()
    return net, f"heat up to {highest.max():.2f}, {passing:.0%} of the heatmaps above {config.TEST.DETECTION_THRESHOLD}"


def run(cfg: Path, images: Optional[Path], output: Path, seed: int, count: Optional[int]) -> None:
    """Initialise, calibrate and write a checkpoint; print the scale of the outputs."""
    config = load_config(cfg)
    make, default_count = (make_pose, 6) if config.MODEL.NAME == POSE else (make_classification, 32)
    if config.MODEL.NAME == POSE and not images:
        raise UserError("--images is missing", hint="give a directory of images with people, such as COCO's val2017")
    paths = list_images(images, count or default_count) if images else []
    torch.manual_seed(seed)
    net, scale = make(config, paths)
    checkpoint.save(net, output)
    print(f"wrote {output} (seed {seed}, calibrated on {len(paths) or 'noise instead of'} images: {scale})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeded_checkpoint", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--images", type=Path, help="directory of images to calibrate on; pose: required")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write (.pth)")
    parser.add_argument("--seed", type=integer(0), default=0, help="random seed of the weights (%(default)s)")
    parser.add_argument("--count", type=integer(1), help="number of images to calibrate on (32; pose models: 6)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
