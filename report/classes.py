"""Statistics of a classifier's predictions, in one pass over predictions.jsonl: classes, confusions, reliability,
accuracy by image size, and the worst images.

Reliability: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599 (ten equal bins).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from hrnet.io.predictions import ClassPrediction
from postprocess.topn import class_name

WORST_CLASSES, CONFUSIONS, WORST_IMAGES, BINS = 20, 20, 24, 10
SIDES = (64, 128, 256, 384, 512, 768, 1024)  # pixels: each group has the images from one value up to the next


@dataclass
class Group:
    """Counts over a group of images."""

    images: int = 0
    hits: int = 0  # Top-1
    confidence: float = 0.0  # sum of the probabilities of the best classes

    def add(self, hit: bool, confidence: float) -> None:
        self.images += 1
        self.hits += hit
        self.confidence += confidence

    def row(self, **more: Any) -> dict[str, Any]:
        mean = self.confidence / self.images
        return {**more, "images": self.images, "hits": self.hits, "top1": 100 * self.hits / self.images, "mean": mean}


@dataclass
class Statistics:
    """Sums over predictions. `names`: of the classes; may be empty."""

    names: Sequence[str]
    classes: dict[int, Group] = field(default_factory=dict)
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)
    bins: dict[int, Group] = field(default_factory=dict)
    sizes: dict[int, Group] = field(default_factory=dict)  # by size_group
    images: int = 0
    worst: list[tuple[float, int, ClassPrediction]] = field(default_factory=list)  # a heap

    def add(self, found: ClassPrediction) -> None:
        hit, best, confidence = found.rank == 0, found.classes[0], found.probabilities[0]
        self.images += 1
        self.classes.setdefault(found.label, Group()).add(hit, confidence)
        self.bins.setdefault(min(BINS - 1, int(BINS * confidence)), Group()).add(hit, confidence)
        if found.size:
            self.sizes.setdefault(size_group(min(found.size)), Group()).add(hit, confidence)
        if not hit:
            self.confusions[found.label, best] += 1
        badness = confidence if not hit else -confidence  # first wrong with high, then right with low confidence
        entry = (badness, -self.images, found)
        if len(self.worst) < WORST_IMAGES:
            heapq.heappush(self.worst, entry)
        else:
            heapq.heappushpop(self.worst, entry)

    def name(self, label: int) -> str:
        """A class with its index: `3 tiger shark`, or `class 3` without names."""
        name = class_name(self.names, label)
        return f"{label} {name}" if self.names and label >= 0 else name

    def content(self) -> dict[str, Any]:
        """JSON values for the page."""
        classes = sorted(
            self.classes.items(), key=lambda item: (item[1].hits / item[1].images, -item[1].images, item[0])
        )
        pairs = sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))
        gap = sum(abs(group.hits - group.confidence) for group in self.bins.values()) / self.images
        return {
            "images": self.images,
            "hits": sum(group.hits for group in self.classes.values()),
            "classes": len(self.classes),
            "perfect": sum(group.hits == group.images for group in self.classes.values()),
            "worst": [
                group.row(label=label, name=self.name(label))
                for label, group in classes[:WORST_CLASSES]
                if group.hits < group.images
            ],
            "pairs": len(pairs),
            "confusions": [
                {
                    "label": label,
                    "name": self.name(label),
                    "found": best,
                    "found_name": self.name(best),
                    "images": count,
                }
                for (label, best), count in pairs[:CONFUSIONS]
            ],
            "reliability": [
                group.row(least=index / BINS, most=(index + 1) / BINS) for index, group in sorted(self.bins.items())
            ],
            "calibration_error": gap,
            "sizes": [group.row(least=least, most=next_side(least)) for least, group in sorted(self.sizes.items())],
            "worst_images": [self._image(found) for _, _, found in sorted(self.worst, key=lambda each: each[:2])[::-1]],
        }

    def _image(self, found: ClassPrediction) -> dict[str, Any]:
        guesses = [
            {"class": label, "name": self.name(label), "probability": value}
            for label, value in zip(found.classes, found.probabilities)
        ]
        known = {"source": found.source, "label": found.label, "name": self.name(found.label), "rank": found.rank}
        return {**known, "guesses": guesses}


def size_group(side: int) -> int:
    """The lower limit of the size group for images whose short side has `side` pixels."""
    return max((least for least in SIDES if least <= side), default=0)


def next_side(least: int) -> Optional[int]:
    return next((side for side in SIDES if side > least), None)


def collect(predictions: Iterable[ClassPrediction], names: Sequence[str]) -> dict[str, Any]:
    """The sums over predictions, as JSON values."""
    statistics = Statistics(names)
    for found in predictions:
        statistics.add(found)
    return statistics.content()
