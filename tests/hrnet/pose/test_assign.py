"""The assignment equals that of the munkres package, pair by pair, also for equal costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.pose.assign import assign
from hrnet.pose.group import NEW_PERSON_COST
from tests.support.examples import examples


def munkres_pairs(costs: np.ndarray) -> list[tuple[int, int]]:
    munkres = pytest.importorskip("munkres")
    return [(int(row), int(column)) for row, column in munkres.Munkres().compute(costs.tolist())]


@st.composite
def tied_costs(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    numbers = st.lists(st.integers(0, 3), min_size=rows * columns, max_size=rows * columns)
    costs = np.reshape(draw(numbers), (rows, columns)) * draw(st.sampled_from([1.0, 100.0, 0.1]))
    return costs - np.reshape(draw(st.lists(st.sampled_from([0.0, 0.3, 0.7]), min_size=rows, max_size=rows)), (rows, 1))


@settings(max_examples=examples(150), deadline=None)
@given(tied_costs())
def test_ties_are_resolved_as_by_munkres(costs: np.ndarray) -> None:
    if len(costs) > costs.shape[1]:  # as `group` pads them
        costs = np.concatenate([costs, np.full((len(costs), len(costs) - costs.shape[1]), NEW_PERSON_COST)], axis=1)
    assert assign(costs) == munkres_pairs(costs)


@pytest.mark.parametrize("seed", range(6))
def test_crowds_are_assigned_as_by_munkres(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.integers(20, 31, 2)
    costs = np.round(4 * random.random((rows, columns))) * 100 - random.random((rows, 1)).astype(np.float32)
    costs = np.concatenate([costs, np.full((rows, max(rows - columns, 0)), NEW_PERSON_COST)], axis=1)
    assert assign(costs) == munkres_pairs(costs)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_assignment_costs_less(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).random((rows, columns))
    wide = costs if rows <= columns else costs.T
    least = min(
        sum(wide[i, j] for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    pairs = assign(costs)
    assert len(pairs) == len(wide)
    assert sum(costs[i, j] for i, j in pairs) == pytest.approx(least)
