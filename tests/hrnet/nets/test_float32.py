"""hrnet.nets.float32: no device may round the inputs of float32 products, neither in inference nor in training."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from hrnet.nets import float32
from train import distributed


def allowed() -> list[bool]:
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


def allow(cudnn: bool, matmul: bool) -> None:
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = cudnn, matmul


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    """TF32 is allowed in cuDNN and in matrix products; torch's default allows it only in cuDNN."""
    before = allowed()
    allow(True, True)
    yield
    allow(*before)


@pytest.mark.usefixtures("tf32_allowed")
def test_tf32_and_hf32_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    npu = SimpleNamespace(conv=SimpleNamespace(allow_hf32=True), matmul=SimpleNamespace(allow_hf32=True))
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    assert allowed() == [True, True]
    float32.compute_exactly()
    assert allowed() == [False, False]
    assert (npu.conv.allow_hf32, npu.matmul.allow_hf32) == (False, False)


@pytest.mark.usefixtures("tf32_allowed")
def test_training_computes_exactly() -> None:
    with distributed.init_distributed(0):
        assert allowed() == [False, False]
