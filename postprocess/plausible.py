"""Warnings about a result that looks wrong, whatever its verdict is; and the comparison of classes with a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.io.files import sha256_file
from hrnet.io.predictions import ClassPrediction, read_predictions
from hrnet.io.records import FormatError, read_record
from postprocess.gate import wilson_interval

# A conversion of the same weights stays below this ratio: images with a changed class / wrongly classified images
CHANGED_BY_CONVERSION = 0.5


def shifted_labels(shifts: Counter[int]) -> list[str]:
    """A warning if labels that are one higher or one lower would give a higher Top-1, and the 95% intervals of both do
    not overlap. `shifts`: {best class - label: number of images}."""
    images = sum(shifts.values())
    shift = max((1, -1), key=lambda number: shifts[number])
    (_, high), (low, _) = (wilson_interval(shifts[number] / images, images) for number in (0, shift))
    if low <= high:
        return []
    percent, where = 100 * shifts[shift] / images, "higher" if shift > 0 else "lower"
    return [f"if each label were one {where}, Top-1 would be {percent:.2f}%; check the labels"]


def at_chance(low: float, classes: int) -> list[str]:
    """A warning if guessing one of `classes` classes may be as good. `low`: the lower end of the 95% interval, percent.
    For a pose model `classes` is at most 1 and `low` its AP: guessing finds nobody."""
    chance = 100 / classes if classes > 1 else 0.0
    if low > chance:
        return []
    return [
        f"the accuracy is not clearly better than chance ({chance:.3g}%); use more images, or check labels and weights"
    ]


def other_model(changed: Optional[int], images: int, accuracy: float) -> list[str]:
    """A warning if the Top-1 class differs from the reference's on more images than a conversion of the same weights
    changes. Then the compiled model may be a different model that is as good as the reference. `changed`: number of
    these images, None if it is unknown; `accuracy`: Top-1 of the less accurate model, percent.

    Two models that were trained separately differ on about E images, where E is the number of images that a single
    model classifies wrongly; int8 models of EfficientNet-Lite changed 7 to 22% of E. The limit is CHANGED_BY_CONVERSION
    of E; the warning is given if all of Wilson's 95% interval of the changed images is above it.
    """
    limit = CHANGED_BY_CONVERSION * (1 - accuracy / 100)
    if not changed or wilson_interval(changed / images, images)[0] <= limit:
        return []
    what = f"the Top-1 class differs from the reference's for {100 * changed / images:.1f}% of the images"
    return [f"{what}, more than a conversion changes; check that the compiled model was made from the same weights"]


def other_weights(record: Path, weights_sha256: str) -> list[str]:
    """A warning if PyTorch's accuracy was measured with another checkpoint than the one that the compiled model was
    exported from. `record`: of the reference; `weights_sha256`: empty if the model does not name its checkpoint."""
    content = read_record(record, "metrics")
    known = content.get("weights_sha256") if str(content.get("tool")).startswith("torch ") else None
    if not known or not weights_sha256 or known == weights_sha256:
        return []
    what = "the model was exported from another checkpoint than the reference's"
    return [f"{what}; give the WEIGHTS that the model was exported from"]


def count_changed(best: Sequence[int], record: Path) -> Optional[int]:
    """The number of images whose most probable class differs between `best` and a reference on the same images.
    `record`: the reference's metrics record; None if neither it nor the predictions beside it contain the classes.
    Raises FormatError."""
    content, predictions = read_record(record, "metrics"), record.with_suffix("") / "predictions.jsonl"
    predicted, evaluated = content.get("predicted"), content.get("evaluated")
    known = evaluated.get("predictions_sha256") if isinstance(evaluated, dict) else None
    if predicted is None and known and predictions.is_file() and sha256_file(predictions) == known:
        predicted = [each.classes[0] for each in read_predictions(predictions, ClassPrediction)]
    if predicted is None:
        return None
    integers = isinstance(predicted, list) and all(type(each) is int for each in predicted)
    if not integers or len(predicted) != len(best):
        found = f"{len(predicted)} values" if isinstance(predicted, list) else predicted
        expected, hint = f"a class for each of {len(best)} images", f"rm {record}; make reference"
        raise FormatError("invalid predicted", where=record, expected=expected, found=found, hint=hint)
    return int((np.asarray(predicted) != np.asarray(best)).sum())
