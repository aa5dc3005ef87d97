"""The search for a small set of operators that stay in float, for any function that evaluates a set.

The first TRIED operators are tried one at a time, in the given order. Then the best ones are added to the list one by
one, except those that do not reduce the divergence further. At the end each operator that is not needed is removed
again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Callable

# An action that begins with one of these words only measures: it does not change the list
START, TRY = "start", "try"
TRIED = 32  # operators that are tried alone, at most
SHARE = 0.1  # largest share of the operators that is kept, besides those that overflow: each one costs speed
GAIN = 0.05  # an operator is kept if it reduces the divergence by this share of the divergence before the trials
GOAL = 1e-4  # at this divergence (nats, or relative squared error) no more operators are added


@dataclass(frozen=True)
class Step:
    """One model that was evaluated."""

    action: str  # such as `keep /conv1/Conv`
    operators: int  # that stay in float
    divergence: float  # from float32, mean over the images; inf if an output is not finite
    changed: int  # images whose Top-1 class changed
    images_per_second: float
    accepted: bool = False


Evaluate = Callable[[Collection[str], str], Step]


def search(
    evaluate: Evaluate,
    order: Sequence[str],
    needed: Collection[str],
    most: int,
    report: Callable[[Step], None] = lambda step: None,
) -> tuple[set[str], list[Step]]:
    """The operators to keep, and all steps. `order`: operators in the order of the trials; `needed`: operators that
    overflow, which are kept from the start and are dropped at the end if the result does not need them; `most`: how
    many others may be kept; `report`: called after each step."""
    kept: set[str] = set(needed)
    steps: list[Step] = []

    def done(step: Step) -> Step:
        steps.append(step)
        report(step)
        return step

    best = done(replace(evaluate((), START), accepted=True))
    if kept:
        best = done(replace(evaluate(kept, f"keep {len(kept)} that overflow"), accepted=True))
    least = GAIN * best.divergence

    def attempt(names: Collection[str], action: str, limit: float) -> bool:
        """Evaluate a set; accept it if its divergence is at most `limit`."""
        nonlocal best
        step = evaluate(names, action)
        step = done(replace(step, accepted=step.divergence <= limit))
        best = step if step.accepted else best
        return step.accepted

    if GOAL < best.divergence < inf:
        gains = {}
        for name in [name for name in order if name not in kept][:TRIED]:
            gains[name] = best.divergence - done(evaluate(kept | {name}, f"{TRY} {name}")).divergence
        for name in sorted(gains, key=lambda each: -gains[each]):
            if best.divergence <= GOAL or gains[name] < least or len(kept) - len(needed) >= most:
                break
            if attempt(kept | {name}, f"keep {name}", best.divergence - least):
                kept.add(name)
    limit = max(GOAL, best.divergence + least)
    ranks = {name: rank for rank, name in enumerate(order)}
    for name in sorted(kept, key=lambda each: (-ranks.get(each, len(ranks)), each)) if len(kept) > 1 or needed else ():
        if attempt(kept - {name}, f"drop {name}", limit):
            kept.remove(name)
    return kept, steps
