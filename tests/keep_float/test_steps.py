"""keep_float.steps: which operators are kept if the divergence is a sum of costs."""

from __future__ import annotations

from collections.abc import Collection
from math import inf

import pytest

from keep_float import steps
from keep_float.steps import Step, search


class Sums:
    """A fake evaluation: each operator that is not kept adds its cost. It records the sets that were evaluated."""

    def __init__(self, **costs: float) -> None:
        self.costs, self.asked = costs, list[set[str]]()

    def __call__(self, kept: Collection[str], action: str) -> Step:
        self.asked.append(set(kept))
        divergence = sum(cost for name, cost in self.costs.items() if name not in kept)
        return Step(action, len(kept), divergence, 0, 1.0)


def test_the_operators_that_save_most_are_kept() -> None:
    model = Sums(a=0.3, b=0.001, c=0.5, d=0.199)
    kept, done = search(model, ["b", "a", "d", "c"], (), 10)
    assert kept == {"a", "c", "d"}, "b saves less than a twentieth of the divergence at the start"
    assert model.asked[:5] == [set(), {"b"}, {"a"}, {"d"}, {"c"}]
    assert [step.action for step in done if step.accepted] == ["start", "keep c", "keep a", "keep d"]
    assert [step.operators for step in done if step.accepted] == [0, 1, 2, 3]


def test_at_most_the_given_number_is_kept() -> None:
    assert search(Sums(a=1, b=2, c=3), ["a", "b", "c"], (), 2)[0] == {"b", "c"}


def test_a_good_model_needs_nothing() -> None:
    model = Sums(a=steps.GOAL / 2, b=steps.GOAL / 2)
    kept, done = search(model, ["a", "b"], (), 10)
    assert kept == set() and len(done) == 1


def test_the_search_ends_at_the_goal() -> None:
    assert search(Sums(a=1.0, b=steps.GOAL / 2), ["b", "a"], (), 10)[0] == {"a"}


def test_only_the_first_operators_are_tried() -> None:
    names = [f"n{number}" for number in range(steps.TRIED + 5)]
    model = Sums(**dict.fromkeys(names, 0.01))
    search(model, names, (), 1)
    assert not any("n33" in each for each in model.asked)


def test_operators_that_overflow_are_kept_if_they_are_needed() -> None:
    model = Sums(a=inf, b=inf, c=0.0)
    kept, done = search(model, ["a", "b", "c"], ["a", "b", "c"], 10)
    assert kept == {"a", "b"} and model.asked[1] == {"a", "b", "c"}
    assert [step.accepted for step in done] == [True, True, True, False, False]


@pytest.mark.parametrize("needed", [["a"], ["a", "b"]])
def test_operators_that_overflow_without_effect_are_dropped(needed: list[str]) -> None:
    """Also a single one: an earlier version never dropped it."""
    kept, done = search(Sums(a=0.0, b=0.0), ["a", "b"], needed, 10)
    assert kept == set() and [step.accepted for step in done] == [True, True, *(True for _ in needed)]


def test_an_overflow_that_remains_ends_the_search() -> None:
    kept, done = search(Sums(a=inf, b=1.0), ["a", "b"], (), 10)
    assert kept == set() and len(done) == 1


class Replaced(Sums):
    """Keeping `b` makes `a` unnecessary."""

    def __call__(self, kept: Collection[str], action: str) -> Step:
        step = super().__call__(kept, action)
        return Step(action, len(kept), 0.05 if "b" in kept else 0.4 if "a" in kept else 1.0, 0, 1.0) if kept else step


def test_an_operator_that_became_unnecessary_is_dropped() -> None:
    """`a` is kept from the start, but with `b` it is not needed."""
    kept, done = search(Replaced(a=0.5, b=0.5), ["a", "b"], ["a"], 10)
    assert kept == {"b"} and done[-1].action in ("drop a", "drop b")
