"""How a net learns: optimiser, learning rate, precision, and one step.

SGD with Nesterov's momentum and a rate that falls at given epochs, as upstream's experiments have it
(https://github.com/HRNet/HRNet-Image-Classification, lib/utils/utils.py and tools/train.py, commit f130a24). The model
zoo's O2 is torch's own autocast here: float16 with a loss scale on NPU and CUDA, bfloat16, which needs none, on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from yacs.config import CfgNode

from hrnet.nets.classification import ClassificationNet
from train.distributed import DistributedContext

PRECISIONS = ("auto", "mixed", "fp32")
FUSED = ("cpu", "cuda")  # devices on which torch updates all weights in one kernel; torch_npu's own was not tried


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """What the net computes in. auto: mixed wherever the device computes it faster than float32."""
    if precision == "fp32" or (precision == "auto" and device.type == "cpu" and not _has_bfloat16()):
        return torch.float32
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; torch emulates it elsewhere."""
    told = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(told and told())


def rate(config: CfgNode, epoch: int) -> float:
    """The learning rate of one process in an epoch, counted from 0."""
    falls = sum(step <= epoch for step in config.TRAIN.LR_STEP)
    return config.TRAIN.LR * config.TRAIN.LR_FACTOR**falls


def optimiser(net: nn.Module, config: CfgNode, device: torch.device, scaled: bool) -> torch.optim.Optimizer:
    """The optimiser of TRAIN. `scaled`: by a GradScaler, which skips steps; a fused SGD whose first step is skipped
    goes on with momentum that was never set (torch 2.13).
    """
    train, fused = config.TRAIN, (device.type in FUSED and not scaled) or None
    if train.OPTIMIZER == "adam":
        return torch.optim.Adam(net.parameters(), train.LR, weight_decay=train.WD, fused=fused)
    momentum = {"momentum": train.MOMENTUM, "nesterov": train.NESTEROV}
    return torch.optim.SGD(net.parameters(), train.LR, weight_decay=train.WD, fused=fused, **momentum)


@dataclass
class Learner:
    """A net and all that changes while it learns."""

    net: ClassificationNet
    wrapped: nn.Module  # the net, or DistributedDataParallel around it
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    dtype: torch.dtype
    place: DistributedContext
    mean: torch.Tensor  # [3, 1, 1], of pixels
    std: torch.Tensor

    def inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [N, H, W, 3] on any device -> normalised float32 [N, 3, H, W] on the net's, channels last in memory."""
        moved = pixels.to(self.place.device, non_blocking=True).permute(0, 3, 1, 2)
        return (moved.float() - self.mean) / self.std

    @property
    def precision(self) -> str:
        return str(self.dtype).partition(".")[2]

    def set_rate(self, rate: float) -> None:
        """The learning rate of one process; as many times that for as many times the images at once (Goyal et al.,
        https://arxiv.org/abs/1706.02677, and the model zoo)."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * self.place.processes

    def learn(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
        """One step; returns its loss and logits float32 [N, classes]. `labels`: int64 [N] on the net's device."""
        with torch.autocast(self.place.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.wrapped(self.inputs(pixels)).float()
        loss = nn.functional.cross_entropy(logits, labels)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.item(), logits.detach()


def learner(net: ClassificationNet, config: CfgNode, precision: str, place: DistributedContext) -> Learner:
    """The net on its device, ready to learn."""
    device, dtype = place.device, dtype_of(precision, place.device)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped: nn.Module = net
    if place.processes > 1:
        wrapped = nn.parallel.DistributedDataParallel(net, [device.index] if device.type != "cpu" else None)
    scaled = dtype == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    mean, std = (
        255 * torch.tensor(values, device=device)[:, None, None] for values in (config.INPUT.MEAN, config.INPUT.STD)
    )
    ready = Learner(net, wrapped, optimiser(net, config, device, scaled), scaler, dtype, place, mean, std)
    ready.set_rate(rate(config, 0))
    return ready
