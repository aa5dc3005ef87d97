"""Calibrate the batch norms of a network with random weights: its values then have the scale of a trained network's.

This module needs only torch, so that it also runs where the packages for images are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hrnet.cli import progress


def calibrate(net: nn.Module, batches: Sequence[torch.Tensor]) -> None:
    """Set the running mean and variance of all batch norms from batches of images, float32 [N, 3, H, W] each."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
    net.train()
    with torch.no_grad():
        for batch in progress(batches, unit="batch"):
            net(batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    net.eval()
