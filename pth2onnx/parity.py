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
from hrnet.nets.checkpoint import LARGEST

SEED = 0

# Largest difference allowed between two values, relative to the largest value of that output for that image (or to
# SMALLEST, if all are smaller). float32 sums in another order differ by some 2e-5 of the logits' scale in W18; a wrong
# layer by all of it.
TOLERANCE = 1e-4
SMALLEST = 0.1  # heatmaps of noise are nearly zero: sums of larger values, rounded, that cancel each other

PATCH = 16  # pixels of one colour, before noise is added


@dataclass(frozen=True)
class Parity:
    """How far the file is from torch: for the image and output that come nearest to their tolerance."""

    max_abs_difference: float
    cosine: float  # the smallest one of any image and output
    tolerance: float  # absolute, for this image and output
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


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest absolute difference and cosine of each image, float64 [N] each, of two arrays [N, …] of one shape."""
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, found))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Zeros have no direction: their cosine is 1 only with zeros.
    cosines = np.where(lengths > 0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
    return np.abs(a - b).max(axis=1), cosines


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

    Raises WorkFailed when shapes differ, a value is not finite or above checkpoint.LARGEST, or a difference is above
    TOLERANCE.
    """
    compute, cosine = KINDS[kind](file), 1.0
    worst = 0.0, 0.0, 0.0  # part of its tolerance, tolerance, difference
    for batch in inputs:
        expected, found = outputs_of(net, batch), compute(batch)
        shapes = [[list(output.shape) for output in outputs] for outputs in (expected, found)]
        if shapes[0] != shapes[1]:
            raise WorkFailed(f"output shapes of the {kind} file", expected=f"{shapes[0]} of torch", found=shapes[1])
        for wanted, got in zip(expected, found):
            largest = max(float(np.abs(wanted).max()), float(np.abs(got).max()))
            if not (np.isfinite(got).all() and largest <= LARGEST):
                what = f"outputs that are NaN, infinite or above {LARGEST:.0e}"
                raise WorkFailed(what, found=f"{largest:.0e}", hint="is the checkpoint damaged?")
            differences, cosines = compare(wanted, got)
            scales = np.abs(wanted).reshape(len(wanted), -1).max(axis=1).astype(np.float64)
            allowed = TOLERANCE * np.maximum(SMALLEST, scales)
            worst = max(worst, *zip((differences / allowed).tolist(), allowed.tolist(), differences.tolist()))
            cosine = min(cosine, float(cosines.min()))
    _, tolerance, difference = worst
    parity = Parity(difference, cosine, tolerance, [list(batch.shape) for batch in inputs])
    if not parity.max_abs_difference <= parity.tolerance:
        found_text = f"{parity.max_abs_difference:.2e}, cosine {cosine:.6f}"
        most = f"a difference of at most {parity.tolerance:.2e}"
        raise WorkFailed(f"the {kind} file differs from torch", expected=most, found=found_text)
    return parity
