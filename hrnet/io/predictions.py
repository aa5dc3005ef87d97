"""`predictions.jsonl`: the result for each image, one JSON object per line, in the manifest's order.

classification   {"source": "val/x.JPEG", "label": 3, "rank": 0, "classes": [3, 7, …], "probabilities": [0.91, …],
                  "size": [500, 375]}
pose             {"source": "images/val2017/x.jpg", "image_id": 139, "gear": [512, 704], "people": 2, "score": 0.83}

rank          number of classes before the label in the order of probability (if equal, the lower index is first): a
              Top-N hit if below N
classes       the most probable classes, at most five, best first; -1: a background class that has no label
probabilities of these classes: softmax, rounded to six decimals
size          width and height of the image, pixels
gear          height and width of the input, pixels
score         of the best person; null if there is no person
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
    """A classifier's result for one image."""

    source: str  # path relative to the data set
    label: int
    rank: int
    classes: list[int]
    probabilities: list[float]
    size: Optional[list[int]] = None  # width, height of the image, pixels; None in files before release 0.2


@dataclass(frozen=True)
class PosePrediction:
    """A pose model's result for one image; the keypoints are in keypoints.json."""

    source: str
    image_id: int
    gear: list[int]
    people: int
    score: Optional[float]


Prediction = Union[ClassPrediction, PosePrediction]
P = TypeVar("P", bound=Prediction)


def read_predictions(path: AnyPath, kind: type[P]) -> Iterator[P]:
    """Yield the predictions in a file. Values are not checked, since a record has the hash of the file. Raises
    FormatError for a missing file and a line with wrong keys."""
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
        raise FormatError(f"invalid line {number}", where=path, expected=expected, found=found, hint=HINT) from None


def write_predictions(path: AnyPath, predictions: Iterable[Prediction]) -> None:
    """Write one line for each image, atomically."""
    write_text(path, "".join(f"{json.dumps(asdict(each))}\n" for each in predictions))
