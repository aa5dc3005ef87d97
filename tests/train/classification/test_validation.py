"""train/classification/validation.py: hits and classes of equal logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.classification.reference import count_hits
from train.classification.validation import hits, predicted_classes


def test_predicted_classes_of_equal_logits_are_the_lowest() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 3.0]])
    assert predicted_classes(logits) == [1, 0, 2]


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 999))
def test_hits_equal_those_of_the_reference(classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(0, 4, (images, classes)).astype(np.float32)  # many are equal
    labels = random.integers(0, classes, images)
    first, five = hits(torch.from_numpy(logits), torch.from_numpy(labels))
    expected = {f"top{n}": 100 * hits / len(labels) for n, hits in enumerate(count_hits(logits, labels), 1)}
    assert first * 100 / images == pytest.approx(expected["top1"])
    assert five * 100 / images == pytest.approx(list(expected.values())[-1])
