"""Proof that a file computes what its torch net computes: run it (ONNX in onnxruntime, TorchScript in torch), compare.

Tensors are float32, images NCHW.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable

import numpy as np
import onnxruntime
import torch

from hrnet.cli import WorkFailed
from hrnet.io.files import AnyPath

SEED = 0

# Largest difference allowed between two values, relative to the largest value of that output (or to 1, if all are
# smaller). float32 sums in another order differ by some 2e-5 of the logits' scale in W18; a wrong layer by all of it.
TOLERANCE = 1e-4

PATCH = 16  # pixels of one colour, before noise is added


@dataclass(frozen=True)
class Parity:
    """How far the file is from torch, over all inputs; of several outputs, the one nearest to its tolerance."""

    max_abs_difference: float
    cosine: float  # the smallest one of any image and output
    tolerance: float  # absolute, for this output
    inputs: list[list[int]]  # their shapes


def images_like(batch: int, size: Sequence[int], mean: Sequence[float], std: Sequence[float], seed: int) -> np.ndarray:
    """Seeded images of noisy patches, normalised as real ones are: float32 [batch, 3, height, width].

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
    # Zeros have no direction: their cosine is 1 only with zeros.
    cosines = np.where(lengths > 0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
    return float(np.abs(a - b).max()), float(cosines.min())


def outputs_of(net: Callable[[torch.Tensor], Any], batch: np.ndarray) -> list[np.ndarray]:
    """All outputs of a net or a TorchScript module; either may return a single one without a list."""
    with torch.inference_mode():
        given = net(torch.from_numpy(batch))
    return [output.numpy() for output in (given if isinstance(given, (list, tuple)) else [given])]


def _onnx(file: AnyPath) -> Compute:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: [np.asarray(output) for output in session.run(None, {name: batch})]


@contextlib.contextmanager
def torchscript_warnings() -> Iterator[None]:
    """Without torch's warnings that TorchScript, which Torch-AIE needs, is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit")
        yield


def _torchscript(file: AnyPath) -> Compute:
    with torchscript_warnings():
        return partial(outputs_of, torch.jit.load(str(file)))


Compute = Callable[[np.ndarray], list[np.ndarray]]
KINDS: dict[str, Callable[[AnyPath], Compute]] = {"ONNX": _onnx, "TorchScript": _torchscript}


def prove(
    net: Callable[[torch.Tensor], Any], file: AnyPath, inputs: Sequence[np.ndarray], kind: str = "ONNX"
) -> Parity:
    """Run `file` and `net` on each of `inputs` (float32 [N, 3, H, W], N, H and W may differ) and compare all outputs.

    Raises WorkFailed when shapes differ, a value is not finite, or the difference is above TOLERANCE.
    """
    compute, cosine = KINDS[kind](file), 1.0
    differences: list[float] = []
    scales: list[float] = []
    for batch in inputs:
        expected, found = outputs_of(net, batch), compute(batch)
        shapes = [[list(output.shape) for output in outputs] for outputs in (expected, found)]
        if shapes[0] != shapes[1]:
            raise WorkFailed(f"output shapes of the {kind} file", expected=f"{shapes[0]} of torch", found=shapes[1])
        differences, scales = differences or [0.0] * len(found), scales or [1.0] * len(found)
        for k, (wanted, got) in enumerate(zip(expected, found)):
            if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
                raise WorkFailed("the outputs are not finite", hint="is the checkpoint damaged?")
            difference, angle = compare(wanted, got)
            differences[k], cosine = max(differences[k], difference), min(cosine, angle)
            scales[k] = max(scales[k], float(np.abs(wanted).max()))
    worst = max(range(len(scales)), key=lambda k: differences[k] / scales[k])
    parity = Parity(differences[worst], cosine, TOLERANCE * scales[worst], [list(batch.shape) for batch in inputs])
    if not parity.max_abs_difference <= parity.tolerance:
        found_text = f"{parity.max_abs_difference:.2e}, cosine {cosine:.6f}"
        allowed = f"a difference of at most {parity.tolerance:.2e}"
        raise WorkFailed(f"the {kind} file differs from torch", expected=allowed, found=found_text)
    return parity
