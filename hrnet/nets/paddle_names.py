"""Convert PaddleClas' names of HRNet's weights to upstream's.

Source: https://github.com/PaddlePaddle/PaddleClas ppcls/arch/backbone/legendary_models/hrnet.py, commit 70da41c
(Apache-2.0). Each of its layers is a convolution `conv` and a batch norm `bn`. The weights of its linear layers are
[inputs, outputs]; in PyTorch they are [outputs, inputs]. Its squeeze-and-excite gates are linear layers; here they are
1x1 convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

FIRST = re.compile(r"(.*\.)?conv_layer1_1\.conv\.weight")  # only HRNet's state dict has it


def _fuse(match: re.Match[str]) -> str:
    """Upstream's path of PaddleClas' N-th layer that resizes branches. The layers are numbered by target branch, then
    by source branch, then by halving."""
    stage, module, number = match.groups()
    branches = int(stage)
    paths = [
        f"{target}.{source}" + (f".{halving}" if source < target else "")
        for target in range(branches)
        for source in range(branches)
        for halving in range(max(1, target - source))
        if source != target
    ]
    number = int(number)
    return f"stage{stage}.{module}.fuse_layers.{paths[number] if number < len(paths) else number}"


CHANGES: tuple[tuple[str, Any], ...] = (
    (r"\bconv_layer1_([12])\.conv\b", r"conv\1"),
    (r"\bconv_layer1_([12])\.bn\b", r"bn\1"),
    (r"\bconv_tr1_1\b", "transition1.0"),
    (r"\bconv_tr1_2\b", "transition1.1.0"),
    (r"\bconv_tr([23])\b", r"transition\1.\1.0"),
    (r"\bst([234])\.stage_func_list\.(\d+)\.basic_block_list\b", r"stage\1.\2.branches"),
    (r"\bst([234])\.stage_func_list\.(\d+)\.fuse_func\.residual_func_list\.(\d+)\b", _fuse),
    (r"\blast_cls\.func_list\.(\d+)\b", r"incre_modules.\1.0"),
    (r"\bcls_head_conv_list\b", "downsamp_modules"),
    (r"\bconv_last\b", "final_layer"),
    (r"\bconv_down\b", "downsample"),
    (r"\bconv([123])\.conv\b", r"conv\1"),
    (r"\bconv([123])\.bn\b", r"bn\1"),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
    (r"\.se\.fc_squeeze\b", ".se.squeeze"),
    (r"\.se\.fc_excitation\b", ".se.excite"),
    (r"\bfc\b", "classifier"),
    (r"\b_mean\b", "running_mean"),
    (r"\b_variance\b", "running_var"),
)


def has_paddle_names(state: Mapping[Any, Any]) -> bool:
    """Whether the names in `state` are PaddleClas', with or without a prefix."""
    return any(isinstance(name, str) and FIRST.fullmatch(name) for name in state)


def to_upstream_names(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Convert PaddleClas' names in a state dict to upstream's; a prefix and all other names are kept."""
    result = {}
    for name, value in state.items():
        ours = str(name)
        for pattern, replacement in CHANGES:
            ours = re.sub(pattern, replacement, ours)
        if isinstance(value, torch.Tensor) and value.ndim == 2 and ours.endswith(".weight"):
            value = value.t()[:, :, None, None] if ".se." in ours else value.t()
        result[ours] = value
    return result
