"""A fake of Torch-AIE: it accepts the calls of the model zoo's scripts, rejects wrong ones, and computes with torch on
the CPU, in float32.

Rejected: to compile or to move a tensor before `set_device` in the same thread, or to another device; to compile
without a chip, or a module that is not TorchScript; a batch of another shape than the compiled one, or on the CPU.
Outputs are NaN until their stream is synchronised, and cannot be read before they are moved to the CPU. Written from
those scripts; not compared with an installed Torch-AIE.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import torch

__version__ = "fake"

_thread = threading.local()
_plain_to, _plain_numpy = torch.Tensor.to, torch.Tensor.numpy


class PrecisionPolicy(enum.Enum):
    FP16 = "fp16"
    FP32 = "fp32"


def set_device(device: int) -> None:
    if not isinstance(device, int):
        raise TypeError(f"set_device: expected int, found {type(device).__name__}")
    _thread.device = device


def _check_device(device: Optional[int] = None) -> None:
    chosen = getattr(_thread, "device", None)
    if chosen is None or device not in (None, chosen):
        raise RuntimeError(f"device {device} is not set in this thread (set: {chosen})")


class Input:
    def __init__(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise RuntimeError(f"Input: shape {shape}")
        self.shape, self.dtype = tuple(shape), dtype


class Compiled:
    """What `compile` returns."""

    def __init__(self, module: torch.jit.ScriptModule, given: Input) -> None:
        self.module, self.given = module, given

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not hasattr(image, "npu"):
            raise RuntimeError("the input is on the CPU")
        _check_device(image.npu)
        found = (tuple(image.shape), image.dtype)
        if found != (self.given.shape, self.given.dtype):
            raise RuntimeError(f"compiled for {self.given.shape} {self.given.dtype}, found {found}")
        result = self.module(_plain_to(image, "cpu"))
        output = _on_npu(torch.full_like(result, float("nan")), image.npu)
        _thread.stream.pending.append((output, result))
        return output

    __call__ = forward


def compile(
    module: torch.jit.ScriptModule,
    inputs: Sequence[Input],
    precision_policy: PrecisionPolicy = PrecisionPolicy.FP16,
    allow_tensor_replace_int: bool = False,
    soc_version: str = "",
) -> Compiled:
    _check_device()
    if not isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"compile: expected a ScriptModule, found {type(module).__name__}")
    if not isinstance(precision_policy, PrecisionPolicy):
        raise TypeError(f"compile: precision_policy {precision_policy!r}")
    if not soc_version.startswith("Ascend"):
        raise RuntimeError(f"compile: soc_version {soc_version!r}")
    if not allow_tensor_replace_int:
        raise RuntimeError("compile: expected an int, found a tensor")
    (given,) = inputs
    return Compiled(module, given)


class npu:  # noqa: N801
    """A module of the real package."""

    class Stream:
        def __init__(self, device: str) -> None:
            _check_device(int(device.partition("npu:")[2]))
            self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

        def synchronize(self) -> None:
            while self.pending:
                output, result = self.pending.pop()
                output.copy_(result)

    @staticmethod
    @contextlib.contextmanager
    def stream(stream: npu.Stream) -> Iterator[None]:
        _thread.stream = stream
        try:
            yield
        finally:
            del _thread.stream


def _on_npu(tensor: torch.Tensor, device: int) -> torch.Tensor:
    tensor.npu = device  # type: ignore[attr-defined]
    return tensor


def _to(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    if args and isinstance(args[0], str) and args[0].startswith("npu:"):
        device = int(args[0][len("npu:") :])
        _check_device(device)
        return _on_npu(self.clone(), device)
    return _plain_to(self.clone() if hasattr(self, "npu") else self, *args, **options)


def _numpy(self: torch.Tensor, *args: Any, **options: Any) -> Any:
    if hasattr(self, "npu"):
        raise TypeError("can't convert npu:0 device type tensor to numpy")
    return _plain_numpy(self, *args, **options)


torch.Tensor.to, torch.Tensor.numpy = _to, _numpy  # type: ignore[method-assign, assignment]
