"""`predictions.jsonl`: what a model found on each image, a JSON object in a line, in the manifest's order.

classification   {"source": "val/x.JPEG", "label": 3, "rank": 0, "classes": [3, 7, …], "probabilities": [0.91, …]}
pose             {"source": "images/val2017/x.jpg", "image_id": 139, "gear": [512, 704], "people": 2, "score": 0.83}

rank          how many classes come before the label's: below N, it is a Top-N hit
classes       the most probable ones, at most five, best first; -1 is a background class in front of the labels' classes
probabilities of these classes: softmax, rounded to six decimals
gear          height and width of the input, pixels
score         of the best person; null where nobody was found
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Optional, TypeVar, Union

from hrnet.io.files import AnyPath, write_text
from hrnet.io.records import FormatError

HINT = "run make eval"


@dataclass(frozen=True)
class ClassPrediction:
    """A classifier's answer to one image."""

    source: str  # path relative to the data set
    label: int
    rank: int
    classes: list[int]
    probabilities: list[float]


@dataclass(frozen=True)
class PosePrediction:
    """What was found on one image; the people themselves are in keypoints.json."""

    source: str
    image_id: int
    gear: list[int]
    people: int
    score: Optional[float]


Prediction = Union[ClassPrediction, PosePrediction]
P = TypeVar("P", bound=Prediction)


def read_predictions(path: AnyPath, kind: type[P]) -> Iterator[P]:
    """The lines of a file, one after another; a record's hash says that the values are as they were written. Raises
    FormatError for a missing file and a line with other keys."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _parse(line, number, path, kind)
    except FileNotFoundError:
        raise FormatError("no predictions", where=path, hint=HINT) from None
    except UnicodeDecodeError:
        raise FormatError("not UTF-8 text", where=path, hint=HINT) from None


def _parse(line: str, number: int, path: AnyPath, kind: type[P]) -> P:
    try:
        return kind(**json.loads(line))
    except (ValueError, TypeError):
        expected, found = f"a line of {kind.__name__}", repr(line[:60])
        raise FormatError(f"line {number}", where=path, expected=expected, found=found, hint=HINT) from None


def write_predictions(path: AnyPath, predictions: Iterable[Prediction]) -> None:
    """Write a line for each image, in one step."""
    write_text(path, "".join(f"{json.dumps(asdict(each))}\n" for each in predictions))
