"""HigherHRNet's loss: squared errors of heatmaps at each resolution, and tags pulled together and pushed apart.

Associative embedding (Newell et al., https://arxiv.org/abs/1611.05424): the tags of a person's joints shall be near
their mean, the means of two people apart. Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/loss.py,
whose values these are; people are summed at once in place of one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from yacs.config import CfgNode


class TargetBatch(NamedTuple):
    """`train.pose_targets.Targets` of several images, for one output of the net."""

    heatmaps: torch.Tensor  # float32 [N, joints, H, W]
    judged: torch.Tensor  # float32 [N, H, W]
    places: torch.Tensor  # int64 [N, people, joints]


def heatmap_loss(maps: torch.Tensor, targets: torch.Tensor, judged: torch.Tensor) -> torch.Tensor:
    """Mean squared error [N] of maps [N, joints, H, W]; where `judged` [N, H, W] is 0 the error counts as 0."""
    return ((maps - targets) ** 2 * judged[:, None]).mean(dim=(1, 2, 3))


def tag_losses(tags: torch.Tensor, places: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Push and pull, [N] each, of tag maps [N, maps, H, W] at `places` [N, people, joints] (below 0: none).

    Pull: the mean over people of their tags' variance. Push: half the mean over pairs of people of exp(-d^2) (`exp`) or
    max(0, 1 - |d|) (`max`), where d is the distance of their mean tags.
    """
    marked = places >= 0
    found = tags.flatten(1).gather(1, places.clamp(min=0).flatten(1)).view(places.shape) * marked
    counts = marked.sum(dim=2)  # [N, people]
    means = found.sum(dim=2) / counts.clamp(min=1)
    variances = ((found - means[:, :, None]) ** 2 * marked).sum(dim=2) / counts.clamp(min=1)
    there = counts > 0
    people = there.sum(dim=1)
    pull = variances.sum(dim=1) / people.clamp(min=1)

    distance = means[:, :, None] - means[:, None, :]
    near = torch.exp(-(distance**2)) if kind == "exp" else (1 - distance.abs()).clamp(min=0)
    pairs = (there[:, :, None] & there[:, None, :]).triu(diagonal=1)
    push = (near * pairs).sum(dim=(1, 2)) / (people * (people - 1)).clamp(min=1)
    return push, pull


def losses(outputs: Sequence[torch.Tensor], targets: Sequence[TargetBatch], config: CfgNode) -> dict[str, torch.Tensor]:
    """The terms of the loss, each a mean over the batch times its factor: `heatmap1`, `push1`, `pull1`, `heatmap2`, …
    of the outputs that LOSS asks it of. What is minimised is their sum."""
    joints, loss = config.MODEL.NUM_JOINTS, config.LOSS
    terms = {}
    for i, (output, target) in enumerate(zip(outputs, targets)):
        if loss.WITH_HEATMAPS_LOSS[i]:
            error = heatmap_loss(output[:, :joints], target.heatmaps, target.judged)
            terms[f"heatmap{i + 1}"] = error.mean() * loss.HEATMAPS_LOSS_FACTOR[i]
        if loss.WITH_AE_LOSS[i]:
            push, pull = tag_losses(output[:, joints:], target.places, loss.AE_LOSS_TYPE)
            terms[f"push{i + 1}"] = push.mean() * loss.PUSH_LOSS_FACTOR[i]
            terms[f"pull{i + 1}"] = pull.mean() * loss.PULL_LOSS_FACTOR[i]
    return terms
