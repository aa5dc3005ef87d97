"""amct.emulator.ranges: histograms do not depend on the division into batches, and the ranges agree with numpy."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amct.amct_rules import METHODS
from amct.emulator.ranges import Histogram

VALUES = st.floats(-1e6, 1e6, width=32)


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part.astype(np.float32))
    return made


@example(np.array([1, 2], np.float32), None)
@given(arrays(np.float32, st.integers(2, 40), elements=VALUES), st.data())
def test_the_division_into_batches_does_not_matter(values: np.ndarray, data: Optional[st.DataObject]) -> None:
    cut = data.draw(st.integers(1, len(values) - 1)) if data else 1
    whole = histogram(values)
    for parts in ((values[:cut], values[cut:]), (values[cut:], values[:cut])):
        found = histogram(*parts)
        assert found.limit == whole.limit and (found.counts == whole.counts).all()
    assert whole.counts.sum() == len(values)


@given(arrays(np.float32, st.integers(1, 60), elements=VALUES))
def test_each_range_contains_zero_and_is_inside_the_whole_range(values: np.ndarray) -> None:
    made = histogram(values)
    low, high = made.range("minmax")
    assert (low, high) == (min(values.min(), 0), max(values.max(), 0))
    for method in METHODS:
        found = made.range(method)
        assert low <= found[0] <= 0 <= found[1] <= high


def test_percentile_agrees_with_numpy() -> None:
    values = np.random.default_rng(0).standard_normal(200_000)
    found, wanted = histogram(values).range("percentile"), np.quantile(values, [0.00005, 0.99995])
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_only_minmax_includes_outliers() -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    values[:2] = 100
    made = histogram(values)
    assert made.range("minmax")[1] == 100
    assert made.range("percentile")[1] < 6 and made.range("entropy")[1] < 20


def test_a_relu_keeps_most_of_its_range_with_entropy() -> None:
    """Half of the values are 0; they do not make the range narrower."""
    values = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0)
    low, high = histogram(values).range("entropy")
    assert low == 0 and 2.5 < high <= values.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_rejected(value: float) -> None:
    with pytest.raises(ValueError, match="infinite"):
        histogram(np.array([1.0, value]))
