"""keep_float.measure, compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from keep_float.measure import divergence, top1

LOGITS = np.array([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0], [5.0, 1.0, 1.0]], np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)


def test_divergence_of_logits_and_of_probabilities() -> None:
    other = LOGITS[::-1] * np.float32(0.5)
    p, q = softmax(LOGITS.astype(float)), softmax(other.astype(float))
    wanted = (p * np.log(p / q)).sum(axis=1).mean()
    assert divergence([[LOGITS[:2]], [LOGITS[2:]]], [[other[:2]], [other[2:]]]) == pytest.approx(wanted)
    assert divergence([[p]], [[q]]) == pytest.approx(wanted)
    assert divergence([[LOGITS]], [[LOGITS]]) == 0
    shape = LOGITS.reshape(3, 3, 1, 1)
    assert divergence([[shape]], [[shape + 7]]) == pytest.approx(0, abs=1e-12), "softmax ignores an offset"


def test_values_that_are_not_finite() -> None:
    for value in (np.nan, np.inf):
        broken = LOGITS.copy()
        broken[1, 1] = value
        assert divergence([[LOGITS]], [[broken]]) == np.inf
    assert top1([[LOGITS]]) == [2, 2, 0]


def test_maps_have_a_relative_error() -> None:
    maps = [np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32) for _ in range(2)]
    found = divergence([maps], [[maps[0] + np.float32(0.5), maps[1]]])
    assert found == pytest.approx(0.25 / maps[0].var() / 2, rel=1e-5)
    assert top1([maps]) == [0, 0]
