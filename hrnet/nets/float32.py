"""float32 as IEEE 754 defines it, on devices that round the inputs of convolutions and matrix products by default.

cuDNN computes float32 convolutions in TF32 (10 bits of mantissa, https://docs.pytorch.org/docs/stable/notes/cuda.html),
torch_npu in HF32 (11 bits). Both change results about as much as float16 does, so they must not be called float32.
"""

from __future__ import annotations

import torch


def compute_exactly() -> None:
    """Switch TF32 and HF32 off in this process, for all devices."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if npu := getattr(torch, "npu", None):
        npu.conv.allow_hf32 = npu.matmul.allow_hf32 = False
