"""The HRNet trunk: a stem at 1/4 of the image and four stages. Stages 2 to 4 each add a branch at half the resolution.

Paper: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition
(https://arxiv.org/abs/1908.07919). Names of parameters follow https://github.com/HRNet/HRNet-Image-Classification
lib/models/cls_hrnet.py, commit f130a24 (MIT, Microsoft; Bin Xiao, Ke Sun), so that its checkpoints load. The
squeeze-and-excite gates follow https://github.com/PaddlePaddle/PaddleClas
ppcls/arch/backbone/legendary_models/hrnet.py, commit 70da41c (Apache-2.0): one gate at the end of each residual block,
before the sum. It has biases, and its hidden layer has 1/16 of the channels.

Tensors are float32 [N, C, H, W]. Upsampling is nearest by an integer factor, which is a Resize with constant scales in
ONNX.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from yacs.config import CfgNode

GATE_REDUCTION = 16  # PaddleClas' SELayer


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = False, bias: bool = False
) -> nn.Sequential:
    """A convolution with same padding (key `0`), a batch norm (key `1`) and, if `relu` is set, a ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Gate(nn.Module):
    """Squeeze-and-excite: scale each channel by a sigmoid of the averages of all channels.

    1x1 convolutions instead of PaddlePaddle's linear layers: the same sums, and a graph without reshapes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = max(1, channels // GATE_REDUCTION)
        self.squeeze = nn.Conv2d(channels, inside, 1)
        self.excite = nn.Conv2d(inside, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        average = nn.functional.adaptive_avg_pool2d(x, 1)  # [N, C, 1, 1]
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(average))))


class Basic(nn.Module):
    """Residual block of two 3x3 convolutions; [N, inputs, H, W] to [N, planes, H, W]."""

    kernels: tuple[int, ...] = (3, 3)
    expansion = 1  # output channels for each of `planes`

    def __init__(self, inputs: int, planes: int, gated: bool = False) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Identity() if inputs == outputs else conv_norm(inputs, outputs, 1)
        self.se = Gate(outputs) if gated else nn.Identity()
        widths = [inputs, *[planes] * (len(self.kernels) - 1), outputs]
        for i, kernel in enumerate(self.kernels):
            convolution = nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", convolution)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        body = x
        for number in range(1, len(self.kernels) + 1):
            body = self.relu(body) if number > 1 else body
            body = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(body))
        return self.relu(self.se(body) + self.downsample(x))


class Bottleneck(Basic):
    """1x1, 3x3, 1x1; [N, inputs, H, W] to [N, 4 * planes, H, W]."""

    kernels = (1, 3, 1)
    expansion = 4


BLOCKS: dict[str, type[Basic]] = {"BASIC": Basic, "BOTTLENECK": Bottleneck}


def residual_blocks(kind: str, inputs: int, planes: int, count: int, gated: bool = False) -> nn.Sequential:
    """`count` blocks; the first one changes `inputs` channels to `planes` times the block's expansion."""
    block = BLOCKS[kind]
    outputs = planes * block.expansion
    return nn.Sequential(*(block(outputs if i else inputs, planes, gated) for i in range(count)))


class Exchange(nn.Module):
    """Residual blocks on each branch, then each output branch sums all branches, resized to its resolution.

    Branch i has widths[i] channels at 1/2**i of the first branch's resolution; there are `outputs` output branches.
    """

    def __init__(self, stage: CfgNode, outputs: int, gated: bool) -> None:
        super().__init__()
        widths = stage_widths(stage)
        self.branches = nn.ModuleList(
            residual_blocks(stage.BLOCK, *branch, gated) for branch in zip(widths, stage.NUM_CHANNELS, stage.NUM_BLOCKS)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._resize(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )

    @staticmethod
    def _resize(widths: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            layers = conv_norm(widths[source], widths[target], 1)
            layers.append(nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
            return layers
        halvings = target - source
        return nn.Sequential(
            *(conv_norm(widths[source], widths[source], 3, 2, relu=True) for _ in range(halvings - 1)),
            conv_norm(widths[source], widths[target], 3, 2),
        )

    def forward(self, branches: list[torch.Tensor]) -> list[torch.Tensor]:
        branches = [blocks(x) for blocks, x in zip(self.branches, branches)]
        return [torch.relu(self._fuse(layers, branches)) for layers in self.fuse_layers]  # type: ignore[arg-type]

    @staticmethod
    def _fuse(layers: Iterable[nn.Module], branches: Iterable[torch.Tensor]) -> torch.Tensor:
        """The sum from left to right, without the zero that `sum` would add to the exported graph."""
        return functools.reduce(operator.add, (layer(x) for layer, x in zip(layers, branches)))


def stage_widths(stage: CfgNode) -> list[int]:
    """Channels of each branch of a stage."""
    return [planes * BLOCKS[stage.BLOCK].expansion for planes in stage.NUM_CHANNELS]


class Trunk(nn.Module):
    """Stem and stages with the sizes in MODEL.EXTRA. A network with a head derives from it, so that parameter names
    have no prefix.

    `outputs`: the number of branches that the last stage returns: all 4 for classification, only the first for pose
    (its checkpoints lack the weights of the others). `gated`: each residual block ends in a gate. `self.widths`: the
    channels of the branches that the last stage returns.
    """

    def __init__(self, extra: CfgNode, outputs: int = 4, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        stem = extra.STEM_INPLANES
        self.conv1 = nn.Conv2d(3, stem, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        stages = [extra[f"STAGE{number}"] for number in range(1, 5)]
        first = stages[0]
        self.layer1 = residual_blocks(first.BLOCK, stem, first.NUM_CHANNELS[0], first.NUM_BLOCKS[0], self.gated)
        widths = [stage_widths(stage) for stage in stages]
        self.transition1 = self._transition(widths[0], widths[1])
        self.stage2 = self._stage(stages[1])
        self.transition2 = self._transition(widths[1], widths[2])
        self.stage3 = self._stage(stages[2])
        self.transition3 = self._transition(widths[2], widths[3])
        self.stage4 = self._stage(stages[3], outputs)
        self.widths = widths[3][:outputs]

    @staticmethod
    def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
        """Change each branch to the next stage's width, and add a branch that is computed from the last branch of
        the previous stage.

        Upstream differs in the input of a changed branch: there it is the last branch of the previous stage, as for the
        new branch; here it is the branch itself. The result is the same for all published models: transition1 has only
        one branch to change, transition2 and transition3 change none.
        """
        kept: list[nn.Module] = [
            nn.Identity() if inputs == outputs else conv_norm(inputs, outputs, 3, relu=True)
            for inputs, outputs in zip(before, after)
        ]
        new = nn.Sequential(conv_norm(before[-1], after[-1], 3, 2, relu=True))
        return nn.ModuleList([*kept, new])

    def _stage(self, stage: CfgNode, outputs: int = 0) -> nn.Sequential:
        """The stage's modules; the last one returns `outputs` branches (0: all)."""
        branches = stage.NUM_BRANCHES
        last = Exchange(stage, outputs or branches, self.gated)
        return nn.Sequential(*(Exchange(stage, branches, self.gated) for _ in range(stage.NUM_MODULES - 1)), last)

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Image [N, 3, H, W], H and W multiples of 32 -> branches [N, widths[i], H / 4 / 2**i, W / 4 / 2**i]."""
        x = torch.relu(self.bn1(self.conv1(image)))
        x = torch.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        stages = (self.stage2, self.stage3, self.stage4)
        for transition, stage in zip((self.transition1, self.transition2, self.transition3), stages):
            inputs = [*branches, branches[-1]]
            branches = stage([layer(x) for layer, x in zip(transition, inputs)])
        return branches


def initialise(net: nn.Module) -> None:
    """Upstream's initial weights: He-normal convolutions (fan out), from torch's generator; the caller seeds it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def count_parameters(net: nn.Module) -> int:
    """The number of trained values of a network, without the running mean and variance of batch norms."""
    return sum(parameter.numel() for parameter in net.parameters())
