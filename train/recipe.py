"""Optimiser, learning rate, precision and training step, for both tasks.

Classification: SGD with Nesterov momentum (https://github.com/HRNet/HRNet-Image-Classification, lib/utils/utils.py and
tools/train.py, commit f130a24). Pose: Adam (Kingma, Ba, https://arxiv.org/abs/1412.6980), as in
https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, lib/utils/utils.py, commit aa23881. Mixed
precision, the model zoo's O2, uses torch.autocast: float16 with loss scaling on NPU and CUDA, bfloat16 on a CPU.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ClassVar, NamedTuple, Optional

import torch
from torch import nn
from yacs.config import CfgNode

from train.batches import Samples
from train.distributed import DistributedContext, Log

PRECISIONS = ("auto", "mixed", "fp32")
WARM_UP = 0.1  # if LR_STEP is empty: fraction of the epochs in which the learning rate rises


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that the network computes in. auto: float32 on a CPU without bfloat16 instructions, otherwise mixed."""
    if precision == "fp32" or (precision == "auto" and device.type == "cpu" and not _has_bfloat16()):
        return torch.float32
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def _has_bfloat16() -> bool:
    """Whether the processor has bfloat16 instructions; without them torch emulates bfloat16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on CPU and CUDA, where it is the fastest format. torch_npu 2.1 and later reject it."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def learning_rate(settings: CfgNode, epochs: float) -> float:
    """The learning rate after `epochs` epochs, which may be fractional. `settings`: the config's TRAIN.

    It is multiplied by LR_FACTOR at each epoch in LR_STEP. If LR_STEP is empty, it follows one cycle: a linear rise
    from 0 to LR, then a cosine decay to 0 (Smith, Topin, https://arxiv.org/abs/1708.07120)."""
    if settings.LR_STEP:
        return float(settings.LR * settings.LR_FACTOR ** sum(step <= epochs for step in settings.LR_STEP))
    progress = epochs / settings.END_EPOCH
    if progress < WARM_UP:
        return float(settings.LR * progress / WARM_UP)
    return float(settings.LR * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2)


class Outcome(NamedTuple):
    """What a run measured."""

    images_per_second: Optional[float]  # of all processes; None: nothing was trained
    accuracy: Optional[float]  # Top-1, percent: of the last validation, or of the training steps of a performance run
    loss: float  # of the last training step; with --eval, the mean over all images
    weights: Optional[Path] = None  # the checkpoint of a finished run: the best epoch, or else the last one


class Task(abc.ABC):
    """The task of a run, classification or pose, with its config."""

    kind: ClassVar[str]  # MODEL.NAME
    batch_key: ClassVar[str]  # key in TRAIN and TEST: the batch size of each process
    scales_learning_rate: ClassVar[bool]  # whether TRAIN.LR is multiplied by the number of processes
    adam_decays: ClassVar[bool]  # whether Adam uses TRAIN.WD
    fused: ClassVar[tuple[str, ...]]  # devices on which the optimiser updates all weights in one kernel

    def __init__(self, config: CfgNode) -> None:
        self.config = config

    def batch(self, training: bool = True) -> int:
        """The batch size of each process."""
        return int((self.config.TRAIN if training else self.config.TEST)[self.batch_key])

    def check(self, cfg: Path) -> None:  # noqa: B027, optional
        """Raise UserError if the config has a value that this trainer does not support."""

    def precision(self, asked: str) -> str:
        """The value of --precision; a task may replace `auto`."""
        return asked

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """Build the network with upstream's random initialisation, from torch's generator; the caller seeds it."""

    @abc.abstractmethod
    def samples(self, dataset: Path, training: bool = True) -> Samples:
        """The images for training or validation. Raises UserError if they do not match the model."""

    @abc.abstractmethod
    def losses(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        """The terms of the loss; their sum is minimised. `outputs`: the network's outputs, float32."""

    @abc.abstractmethod
    def figures(self, outputs: Any, targets: Any, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        """The metrics that a step reports in addition to the loss."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """The task's settings that affect the losses of a run."""

    def validation(
        self, dataset: Path, context: DistributedContext, log: Log
    ) -> Optional[Callable[[Trainer], dict[str, Any]]]:
        """A function that validates after an epoch and returns metrics with `top1`; None without validation."""
        return None

    def evaluate(self, trainer: Trainer, dataset: Path, weights: Path, folder: Path, log: Log) -> Outcome:
        """Validate the checkpoint `weights`; write the prediction of each image to `folder`."""
        raise NotImplementedError


def optimiser(net: nn.Module, task: Task, device: torch.device, scaled: bool) -> torch.optim.Optimizer:
    """The optimiser in TRAIN. `scaled`: a GradScaler scales the gradients and may skip steps. Then the optimiser is not
    fused: after a skipped first step fused SGD uses uninitialised momentum (torch 2.13)."""
    train, fused = task.config.TRAIN, (device.type in task.fused and not scaled) or None
    if train.OPTIMIZER == "adam":
        decay = train.WD if task.adam_decays else 0.0
        return torch.optim.Adam(net.parameters(), train.LR, weight_decay=decay, fused=fused)
    momentum = {"momentum": train.MOMENTUM, "nesterov": train.NESTEROV}
    return torch.optim.SGD(net.parameters(), train.LR, weight_decay=train.WD, fused=fused, **momentum)


def to_device(value: Any, device: torch.device) -> Any:
    """Move a tensor, or lists and named tuples of tensors, to the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    moved = [to_device(part, device) for part in value]
    return type(value)(*moved) if isinstance(value, tuple) else moved


@dataclass
class Trainer:
    """A network with the state of its training."""

    task: Task
    net: nn.Module
    wrapped: nn.Module  # the network, or DistributedDataParallel around it
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    dtype: torch.dtype
    context: DistributedContext
    mean: torch.Tensor  # [3, 1, 1], of pixel values from 0 to 255
    std: torch.Tensor
    learning_rate: float = 0.0  # before it is multiplied by the number of processes

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """The network's input, float32 [N, 3, H, W], on its device and in its memory format. `images`: uint8 pixels
        [N, H, W, 3], which are normalised here, or float32 [N, 3, H, W], which are already normalised."""
        images = images.to(self.context.device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return images.contiguous(memory_format=memory_format(self.context.device))

    @property
    def precision(self) -> str:
        return str(self.dtype).partition(".")[2]

    def set_learning_rate(self, epochs: float) -> None:
        """Set the learning rate after `epochs` epochs. For classification it is multiplied by the number of processes,
        like the total batch size (Goyal et al., https://arxiv.org/abs/1706.02677, and the model zoo)."""
        self.learning_rate = learning_rate(self.task.config.TRAIN, epochs)
        factor = self.context.processes if self.task.scales_learning_rate else 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * factor

    def step(self, images: torch.Tensor, targets: Any) -> dict[str, float]:
        """Run one training step; return its loss and the task's metrics."""
        targets = to_device(targets, self.context.device)
        with torch.autocast(self.context.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.wrapped(self.inputs(images))
        outputs = outputs.float() if isinstance(outputs, torch.Tensor) else [output.float() for output in outputs]
        terms = self.task.losses(outputs, targets)
        loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {"loss": loss.item(), **self.task.figures(outputs, targets, terms)}


def make_trainer(task: Task, net: nn.Module, precision: str, context: DistributedContext) -> Trainer:
    """Move the network to its device and prepare it for training."""
    device, dtype = context.device, dtype_of(task.precision(precision), context.device)
    net = net.to(device)
    if memory_format(device) == torch.channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped: nn.Module = net
    if context.processes > 1:
        wrapped = nn.parallel.DistributedDataParallel(net, [device.index] if device.type != "cpu" else None)
    scaled = dtype == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    pixels = task.config.INPUT
    mean, std = (255 * torch.tensor(values, device=device)[:, None, None] for values in (pixels.MEAN, pixels.STD))
    return Trainer(task, net, wrapped, optimiser(net, task, device, scaled), scaler, dtype, context, mean, std)
