"""HigherHRNet's loss: squared errors of the heatmaps at each resolution, and push and pull losses of the tags.

Associative embedding (Newell et al., https://arxiv.org/abs/1611.05424) pulls the tags of a person's joints towards
their mean, and pushes the means of two people apart. Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881,
lib/core/loss.py; the values are equal, but all people are computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from train.pose.targets import Targets


def heatmap_loss(maps: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error [N] of maps [N, joints, H, W]; the error is set to 0 where `mask` [N, H, W] is 0."""
    return ((maps - targets) ** 2 * mask[:, None]).mean(dim=(1, 2, 3))


def tag_losses(tags: torch.Tensor, indices: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Push and pull losses, [N] each, of tag maps [N, maps, H, W] at `indices` [N, people, joints] (-1: no joint).

    Pull: the mean over people of their tags' variance. Push: half the mean over pairs of people of exp(-d^2) (`exp`) or
    max(0, 1 - |d|) (`max`), where d is the distance of their mean tags.
    """
    labelled = indices >= 0
    found = tags.flatten(1).gather(1, indices.clamp(min=0).flatten(1)).view(indices.shape) * labelled
    counts = labelled.sum(dim=2)  # [N, people]
    means = found.sum(dim=2) / counts.clamp(min=1)
    variances = ((found - means[:, :, None]) ** 2 * labelled).sum(dim=2) / counts.clamp(min=1)
    present = counts > 0
    people = present.sum(dim=1)
    pull = variances.sum(dim=1) / people.clamp(min=1)

    distance = means[:, :, None] - means[:, None, :]
    near = torch.exp(-(distance**2)) if kind == "exp" else (1 - distance.abs()).clamp(min=0)
    pairs = (present[:, :, None] & present[:, None, :]).triu(diagonal=1)
    push = (near * pairs).sum(dim=(1, 2)) / (people * (people - 1)).clamp(min=1)
    return push, pull


def losses(outputs: Sequence[torch.Tensor], targets: Sequence[Targets], config: CfgNode) -> dict[str, torch.Tensor]:
    """The terms of the loss, each a mean over the batch times its factor: `heatmap1`, `push1`, `pull1`, `heatmap2`, …
    for the outputs with a loss in LOSS."""
    joints, loss = config.MODEL.NUM_JOINTS, config.LOSS
    terms = {}
    for i, (output, target) in enumerate(zip(outputs, targets)):
        if loss.WITH_HEATMAPS_LOSS[i]:
            error = heatmap_loss(output[:, :joints], target.heatmaps, target.mask)
            terms[f"heatmap{i + 1}"] = error.mean() * loss.HEATMAPS_LOSS_FACTOR[i]
        if loss.WITH_AE_LOSS[i]:
            push, pull = tag_losses(output[:, joints:], target.indices, loss.AE_LOSS_TYPE)
            terms[f"push{i + 1}"] = push.mean() * loss.PUSH_LOSS_FACTOR[i]
            terms[f"pull{i + 1}"] = pull.mean() * loss.PULL_LOSS_FACTOR[i]
    return terms
