"""Proof that an ONNX file computes what its torch net computes: the file is run in onnxruntime and compared.

Library of the exporters in this folder; `pth2onnx.classification` shows its use. Tensors are float32, images NCHW.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from hrnet.cli import WorkFailed
from hrnet.files import AnyPath

BATCHES = (1, 2, 5)  # sizes compared: one image, and others, so that a batch baked into the graph shows
SEED = 0

# Largest difference allowed between two logits, as a part of the largest logit (or of 1, if all are smaller). float32
# sums in another order differ by some 2e-5 of the logits' scale in W18; a wrong layer differs by its whole.
TOLERANCE = 1e-4

PATCH = 16  # pixels that share a colour before noise comes on top


@dataclass(frozen=True)
class Parity:
    """How far the file is from torch, over all batches."""

    max_abs_difference: float
    cosine: float  # the smallest one of any image
    tolerance: float  # absolute, as it applied to these logits
    batches: list[int]


def images_like(batch: int, size: Sequence[int], mean: Sequence[float], std: Sequence[float], seed: int) -> np.ndarray:
    """Seeded pictures of noisy patches, normalised as photographs are: float32 [batch, 3, height, width].

    `size`: width and height in pixels; `mean`, `std`: of R, G, B in 0..1.
    """
    width, height = size
    random = np.random.default_rng(seed)
    patches = random.random((batch, 3, -(-height // PATCH), -(-width // PATCH)))
    pixels = patches.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[:, :, :height, :width]
    pixels = np.clip(pixels + random.normal(0, 0.05, pixels.shape), 0, 1)
    by_channel = (1, 3, 1, 1)
    return ((pixels - np.reshape(mean, by_channel)) / np.reshape(std, by_channel)).astype(np.float32)


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference and smallest cosine over images, of two arrays [N, …] of one shape."""
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, found))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Nothing but zeros on a side has no direction: equal to itself alone.
    cosines = np.where(lengths > 0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
    return float(np.abs(a - b).max()), float(cosines.min())


def prove(net: torch.nn.Module, file: AnyPath, inputs: Sequence[np.ndarray]) -> Parity:
    """Run `file` and `net` on each of `inputs` (float32 [N, 3, H, W], N may differ) and compare their one output.

    Raises WorkFailed when shapes differ, a value is not finite, or the difference passes TOLERANCE.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    difference, cosine, scale = 0.0, 1.0, 1.0
    for batch in inputs:
        with torch.inference_mode():
            expected = net(torch.from_numpy(batch)).numpy()
        found = np.asarray(session.run(None, {name: batch})[0])
        if found.shape != expected.shape:
            raise WorkFailed(f"the ONNX file gives shape {list(found.shape)}, torch {list(expected.shape)}")
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise WorkFailed("the outputs are not finite; is the checkpoint whole?")
        batch_difference, batch_cosine = compare(expected, found)
        difference, cosine = max(difference, batch_difference), min(cosine, batch_cosine)
        scale = max(scale, float(np.abs(expected).max()))
    parity = Parity(difference, cosine, TOLERANCE * scale, [len(batch) for batch in inputs])
    if not difference <= parity.tolerance:
        told = f"allowed {parity.tolerance:.2e}, cosine {cosine:.6f}"
        raise WorkFailed(f"the ONNX file differs from torch by {difference:.2e} ({told})")
    return parity
