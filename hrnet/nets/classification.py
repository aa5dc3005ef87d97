"""HRNet for image classification: the trunk's four branches, widened and merged into one vector, then a linear layer.

Paper: https://arxiv.org/abs/1908.07919, figure "cls-head". Names of parameters follow
https://github.com/HRNet/HRNet-Image-Classification lib/models/cls_hrnet.py, commit f130a24 (MIT, Microsoft; Bin Xiao,
Ke Sun). Upstream's head has fixed sizes; here they are MODEL.EXTRA.HEAD and MODEL.NUM_CLASSES.
"""

from __future__ import annotations

import torch
from torch import nn
from yacs.config import CfgNode

from hrnet.nets.trunk import Bottleneck, Trunk, conv_norm, initialise, residual_blocks


class ClassificationNet(Trunk):
    """Normalised RGB image float32 [N, 3, H, W] -> logits float32 [N, classes]."""

    def __init__(self, model: CfgNode) -> None:
        super().__init__(model.EXTRA, gated=model.EXTRA.SQUEEZE_EXCITE)
        head = model.EXTRA.HEAD
        widths = [planes * Bottleneck.expansion for planes in head.CHANNELS]
        self.incre_modules = nn.ModuleList(
            residual_blocks("BOTTLENECK", inputs, planes, 1, self.gated)
            for inputs, planes in zip(self.widths, head.CHANNELS)
        )
        bias = not self.gated  # upstream's head has biases before batch norms, PaddleClas' head has none
        self.downsamp_modules = nn.ModuleList(
            conv_norm(inputs, outputs, 3, 2, relu=True, bias=bias) for inputs, outputs in zip(widths, widths[1:])
        )
        self.final_layer = conv_norm(widths[-1], head.FEATURES, 1, relu=True, bias=bias)
        self.classifier = nn.Linear(head.FEATURES, model.NUM_CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        widened = [widen(x) for widen, x in zip(self.incre_modules, self.features(image))]
        x = widened[0]
        for halve, lower in zip(self.downsamp_modules, widened[1:]):
            x = lower + halve(x)
        x = self.final_layer(x)
        # Adaptive pooling: a mean over H and W would add nodes to the ONNX graph that compute shapes.
        return self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def build(config: CfgNode) -> ClassificationNet:
    """The network of a classification config, in training mode, with upstream's initial weights."""
    net = ClassificationNet(config.MODEL)
    initialise(net)
    return net
