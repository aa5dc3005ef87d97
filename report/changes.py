"""The images whose result differs between two runs: another Top-1 class, or another number of people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union

from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions

LISTED = 500  # changed images


def results(path: Path, pose: bool) -> dict[str, tuple[Any, bool]]:
    """{image: (Top-1 class, whether it is right), or (number of people, False)}."""
    return {each.source: result(each) for each in predictions(path, pose)}


def predictions(path: Path, pose: bool) -> Iterator[Union[ClassPrediction, PosePrediction]]:
    if pose:
        return read_predictions(path, PosePrediction)
    return read_predictions(path, ClassPrediction)


def result(found: Union[ClassPrediction, PosePrediction]) -> tuple[Any, bool]:
    return (found.people, False) if isinstance(found, PosePrediction) else (found.classes[0], found.rank == 0)


def count_changed(before: dict[str, tuple[Any, bool]], path: Path, pose: bool) -> int:
    """The number of images whose result in the predictions `path` differs from that in `before`."""
    return sum(each.source in before and before[each.source][0] != result(each)[0] for each in predictions(path, pose))


def compare(
    before: dict[str, tuple[Any, bool]], after: dict[str, tuple[Any, bool]], name: Callable[[int], str]
) -> dict[str, Any]:
    """Compare two runs: the numbers of images in both or in one of them, the number of changed results by their effect,
    and at most LISTED changed images. `name`: the text for a class or a number of people."""
    both = [source for source in after if source in before]
    changed = [source for source in both if before[source][0] != after[source][0]]
    effects = {
        source: {(False, True): "fixed", (True, False): "broken"}.get((before[source][1], after[source][1]), "other")
        for source in changed
    }
    order = {"broken": 0, "fixed": 1, "other": 2}
    listed = sorted(changed, key=lambda source: order[effects[source]])[:LISTED]
    return {
        "images": len(both),
        "only_before": len(before) - len(both),
        "only_after": len(after) - len(both),
        "changed": len(changed),
        **{effect: sum(each == effect for each in effects.values()) for effect in order},
        "listed": [
            {
                "source": source,
                "before": name(before[source][0]),
                "after": name(after[source][0]),
                "effect": effects[source],
            }
            for source in listed
        ],
    }
