"""Parity with PyTorch: run an exported file (ONNX in onnxruntime, TorchScript in torch) and the network on the same
images, and compare the outputs.

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

# Largest allowed difference between two values, relative to the largest value in the same output of the same image (at
# least MIN_SCALE). In W18, summing float32 values in another order changes logits by about 2e-5 of this value; a wrong
# layer changes them by about the whole value.
TOLERANCE = 1e-4
# Heatmaps of random images are nearly 0, but they are sums of larger values, whose rounding errors remain.
MIN_SCALE = 0.1

PATCH = 16  # side of the squares of one colour in test images, pixels


@dataclass(frozen=True)
class Parity:
    """The differences from PyTorch. `max_abs_difference` and `tolerance` are those of the worst output of an image: the
    one with the largest `max_abs_difference / tolerance`."""

    max_abs_difference: float
    cosine: float  # the smallest over all images and outputs
    tolerance: float  # absolute
    inputs: list[list[int]]  # shapes of the compared batches


def images_like(batch: int, size: Sequence[int], mean: Sequence[float], std: Sequence[float], seed: int) -> np.ndarray:
    """Random images of coloured squares with noise, normalised like real images: float32 [batch, 3, height, width].

    `size`: width and height in pixels; `mean`, `std`: of R, G, B, for pixels scaled to 0..1.
    """
    width, height = size
    random = np.random.default_rng(seed)
    patches = random.random((batch, 3, -(-height // PATCH), -(-width // PATCH)))
    pixels = patches.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[:, :, :height, :width]
    pixels = np.clip(pixels + random.normal(0, 0.05, pixels.shape), 0, 1)
    by_channel = (1, 3, 1, 1)
    return ((pixels - np.reshape(mean, by_channel)) / np.reshape(std, by_channel)).astype(np.float32)


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare two arrays [N, …] of the same shape. Returns for each image the largest absolute difference and the
    cosine similarity, float64 [N] each."""
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, found))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # The cosine of a zero vector is undefined; use 1 if both are zero, else 0.
    cosines = np.where(lengths > 0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
    return np.abs(a - b).max(axis=1), cosines


def outputs_of(net: Callable[[torch.Tensor], Any], batch: np.ndarray) -> list[np.ndarray]:
    """The list of outputs of a network or TorchScript module, which may also return a single tensor."""
    with torch.inference_mode():
        outputs = net(torch.from_numpy(batch))
    return [output.numpy() for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def _onnx(file: AnyPath) -> Compute:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: [np.asarray(output) for output in session.run(None, {name: batch})]


@contextlib.contextmanager
def torchscript_warnings() -> Iterator[None]:
    """Hide torch's warnings that TorchScript is deprecated; Torch-AIE needs it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit")
        yield


def _torchscript(file: AnyPath) -> Compute:
    with torchscript_warnings():
        return partial(outputs_of, torch.jit.load(str(file)))


Compute = Callable[[np.ndarray], list[np.ndarray]]
KINDS: dict[str, Callable[[AnyPath], Compute]] = {"ONNX": _onnx, "TorchScript": _torchscript}


def check_parity(
    net: Callable[[torch.Tensor], Any], file: AnyPath, inputs: Sequence[np.ndarray], kind: str = "ONNX"
) -> Parity:
    """Run `file` and `net` on each batch of `inputs` (float32 [N, 3, H, W], of any sizes) and compare all outputs.

    Raises WorkFailed if shapes differ, if a value is NaN, infinite or above checkpoint.LARGEST, or if a difference is
    above the tolerance.
    """
    compute, cosine = KINDS[kind](file), 1.0
    worst = 0.0, 0.0, 0.0  # difference / tolerance, tolerance, difference
    for batch in inputs:
        expected, found = outputs_of(net, batch), compute(batch)
        shapes = [[list(output.shape) for output in outputs] for outputs in (expected, found)]
        if shapes[0] != shapes[1]:
            raise WorkFailed(f"wrong output shapes of the {kind} file", expected=shapes[0], found=shapes[1])
        for wanted, got in zip(expected, found):
            largest = max(float(np.abs(wanted).max()), float(np.abs(got).max()))
            if not (np.isfinite(got).all() and largest <= LARGEST):
                what = f"outputs are NaN, infinite or above {LARGEST:.0e}"
                raise WorkFailed(what, found=f"{largest:.0e}", hint="check whether the checkpoint is damaged")
            differences, cosines = compare(wanted, got)
            scales = np.abs(wanted).reshape(len(wanted), -1).max(axis=1).astype(np.float64)
            allowed = TOLERANCE * np.maximum(MIN_SCALE, scales)
            worst = max(worst, *zip((differences / allowed).tolist(), allowed.tolist(), differences.tolist()))
            cosine = min(cosine, float(cosines.min()))
    _, tolerance, difference = worst
    parity = Parity(difference, cosine, tolerance, [list(batch.shape) for batch in inputs])
    if not parity.max_abs_difference <= parity.tolerance:
        found_text = f"{parity.max_abs_difference:.2e}, cosine {cosine:.6f}"
        most = f"a difference of at most {parity.tolerance:.2e}"
        raise WorkFailed(f"outputs of the {kind} file differ from PyTorch", expected=most, found=found_text)
    return parity
