"""The pose task for the training loop: upstream's network, heatmaps and associative embedding."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrnet.cli import UserError
from hrnet.nets import pose
from hrnet.nets.trunk import initialise
from hrnet.schemas import POSE
from train.pose.data import AnnotatedImages
from train.pose.loss import losses
from train.pose.targets import Targets
from train.recipe import Task


class PoseTask(Task):
    kind = POSE
    batch_key = "IMAGES_PER_GPU"
    scales_learning_rate = False  # as upstream, since Adam's step size does not grow with the batch size
    adam_decays = False  # as upstream
    fused = ("cuda",)  # on a CPU the kernel rounds differently from the one that trained weights/demo_pose.pth

    def check(self, cfg: Path) -> None:
        config = self.config
        outputs = len(config.LOSS.WITH_AE_LOSS)
        for name in ("WITH_HEATMAPS_LOSS", "HEATMAPS_LOSS_FACTOR", "PUSH_LOSS_FACTOR", "PULL_LOSS_FACTOR"):
            if len(config.LOSS[name]) != outputs:
                raise UserError(
                    f"wrong length of LOSS.{name}",
                    where=cfg,
                    expected=f"{outputs} values",
                    found=list(config.LOSS[name]),
                )

    def precision(self, asked: str) -> str:
        """auto: mixed if the config has FP16.ENABLED."""
        return asked if asked != "auto" else "mixed" if self.config.FP16.ENABLED else "fp32"

    def build(self) -> nn.Module:
        net = pose.build(self.config)
        initialise(net)
        for layer in net.final_layers:
            nn.init.normal_(layer.weight, std=pose.START_STD)  # type: ignore[arg-type]
        return net

    def samples(self, dataset: Path, training: bool = True) -> AnnotatedImages:
        return AnnotatedImages(dataset, self.config)

    def losses(self, outputs: list[torch.Tensor], targets: list[Targets]) -> dict[str, torch.Tensor]:
        return losses(outputs, targets, self.config)

    def figures(self, outputs: Any, targets: Any, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        return {name: term.item() for name, term in terms.items()}

    def settings(self) -> dict[str, Any]:
        content = f"{self.config.DATASET.dump()}\n{self.config.LOSS.dump()}"
        return {"DATASET or LOSS in its config": hashlib.sha256(content.encode()).hexdigest()}
