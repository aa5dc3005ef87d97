"""Measure how much the outputs of a model differ from those in float32. Outputs are lists of batches, each a list of
arrays."""

from __future__ import annotations

import numpy as np

from amct.emulator.quantizer import relative_error

Outputs = list[list[np.ndarray]]
SUM_ERROR = 1e-3  # outputs whose sum differs from 1 by at most this are probabilities
LEAST = 1e-30  # probability: the logarithm of 0 would be infinite


def _logits(outputs: Outputs) -> np.ndarray:
    """float64 [images, classes], or [images, 0] if the outputs are not those of a classifier."""
    shape = outputs[0][0].shape
    if len(outputs[0]) != 1 or len(shape) < 2 or np.prod(shape[1:]) != shape[1]:
        return np.zeros((sum(len(batch[0]) for batch in outputs), 0))
    return np.concatenate([batch[0].reshape(len(batch[0]), -1) for batch in outputs]).astype(np.float64)


def top1(outputs: Outputs) -> list[int]:
    """The class of each image; 0 for outputs other than those of a classifier."""
    logits = _logits(outputs)
    found: list[int] = np.nan_to_num(logits, nan=-np.inf).argmax(axis=1).tolist() if logits.size else [0] * len(logits)
    return found


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def divergence(expected: Outputs, found: Outputs) -> float:
    """The Kullback-Leibler divergence of the softmax of `found` from that of `expected` in nats, mean over the images.
    Softmax is not applied to outputs that are already probabilities. For outputs other than those of a classifier: the
    relative squared error. inf if a value in `found` is not finite."""
    if not all(np.isfinite(array).all() for batch in found for array in batch):
        return float("inf")
    p, q = _logits(expected), _logits(found)
    if not p.size:
        return relative_error(expected, found)
    if p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > SUM_ERROR:
        p, q = _softmax(p), _softmax(q)
    return float(np.mean(np.sum(p * (np.log(np.maximum(p, LEAST)) - np.log(np.maximum(q, LEAST))), axis=1)))
