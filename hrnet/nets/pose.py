"""HigherHRNet: heatmaps and tags at 1/4 of the image from the trunk's first branch; finer heatmaps by deconvolution.

Paper: Cheng et al., HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation
(https://arxiv.org/abs/1908.10357). Names of parameters follow
https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation lib/models/pose_higher_hrnet.py, commit aa23881 (MIT,
Microsoft; Bin Xiao, Bowen Cheng), so that its checkpoints load.

Each deconvolution doubles the resolution and adds an output. MODEL.EXTRA.DECONV has their number and widths.
LOSS.WITH_AE_LOSS selects the outputs that have tag maps after their heatmaps: in all published models only the first.
"""

from __future__ import annotations

import torch
from torch import nn
from yacs.config import CfgNode

from hrnet.nets.trunk import Trunk, residual_blocks

PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}  # kernel size -> padding, output padding of a deconvolution with stride 2
START_STD = 0.001  # standard deviation of upstream's initial weights


def output_channels(config: CfgNode) -> list[int]:
    """Number of channels of each output: first the heatmaps of all joints, then the output's tag maps, if any."""
    joints = config.MODEL.NUM_JOINTS
    tags = joints if config.MODEL.TAG_PER_JOINT else 1
    return [joints + tags if tagged else joints for tagged in config.LOSS.WITH_AE_LOSS]


class PoseNet(Trunk):
    """Normalised RGB image float32 [N, 3, H, W] -> maps float32 [N, channels[i], H / 4 * 2**i, W / 4 * 2**i]."""

    def __init__(self, config: CfgNode) -> None:
        extra = config.MODEL.EXTRA
        super().__init__(extra, outputs=1)
        deconv, channels = extra.DECONV, output_channels(config)
        self.concatenates = list(deconv.CAT_OUTPUT)
        widths = [self.widths[0], *deconv.NUM_CHANNELS]
        kernel = extra.FINAL_CONV_KERNEL
        self.final_layers = nn.ModuleList(
            nn.Conv2d(width, outputs, kernel, padding=kernel // 2) for width, outputs in zip(widths, channels)
        )
        inputs = [width + (maps if cat else 0) for width, maps, cat in zip(widths, channels, self.concatenates)]
        self.deconv_layers = nn.ModuleList(
            self._double(*sizes, deconv.NUM_BASIC_BLOCKS) for sizes in zip(inputs, widths[1:], deconv.KERNEL_SIZE)
        )

    @staticmethod
    def _double(inputs: int, width: int, kernel: int, blocks: int) -> nn.Sequential:
        padding, output_padding = PADDING[kernel]
        upsampled = nn.Sequential(
            nn.ConvTranspose2d(inputs, width, kernel, 2, padding, output_padding, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        return nn.Sequential(upsampled, *(residual_blocks("BASIC", width, width, 1) for _ in range(blocks)))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.features(image)[0]
        outputs = [self.final_layers[0](x)]
        for cat, double, final in zip(self.concatenates, self.deconv_layers, self.final_layers[1:]):
            x = double(torch.cat((x, outputs[-1]), 1) if cat else x)
            outputs.append(final(x))
        return outputs


def build(config: CfgNode) -> PoseNet:
    """The network of a pose config, in training mode, with upstream's random initial weights, not its ImageNet ones."""
    net = PoseNet(config)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=START_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
