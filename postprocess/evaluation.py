"""Compute the accuracy from predictions: Top-1 to Top-5 of a classifier, COCO's ten AP and AR values of a pose
model."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import UserError, first_few, plural
from hrnet.io.coco import NAMES, annotation_path, read_annotations, read_keypoints
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions
from hrnet.io.records import FormatError
from hrnet.io.reference import describe
from hrnet.shards import ListHash, list_sha256
from postprocess.gate import wilson_interval
from postprocess.plausible import shifted_labels
from postprocess.topn import TOP, cumulative_accuracies, write_result

if TYPE_CHECKING:
    from hrnet.pose.average_precision import Detections

CROWDS = {"1": 1, "2": 2, "3-4": 4, "5-8": 8}  # {group of images: the largest number of people}; more people: 9+
WORST = 12  # number of images that the record lists, those with the lowest AP
METRIC = {"classification": "top1", "pose": "AP"}  # {task: the metric for the gate}


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a run."""

    metric: str  # the metric for the gate
    metrics: dict[str, Any]  # percent
    interval95: dict[str, list[float]]
    images: int
    images_sha256: str  # hash of the list of evaluated images
    details: dict[str, Any]  # additional keys for the metrics record
    lines: list[str]  # text to print
    warnings: Sequence[str] = ()
    best: Optional[Sequence[int]] = None  # the most probable class of each image; None for people


def evaluate_classes(predictions: Path, classes: int, result: Path) -> Evaluation:
    """Compute Top-N of a classifier with `classes` outputs, and write the model zoo's result.json to `result`."""
    ranks, best, images, shifts = array("q"), array("q"), ListHash(), Counter[int]()
    for each in read_predictions(predictions, ClassPrediction):
        ranks.append(each.rank)
        best.append(each.classes[0])
        images.add(each.source, each.label)
        shifts[each.classes[0] - each.label] += 1
    accuracies = cumulative_accuracies(np.array(ranks), min(TOP, classes))
    write_result(result, accuracies, len(ranks), classes)
    named = {f"top{n}": accuracy for n, accuracy in enumerate(accuracies, 1)}
    metrics = {name: 100 * accuracy for name, accuracy in named.items()}
    return Evaluation(
        metric="top1",
        metrics=metrics,
        interval95={name: [100 * end for end in wilson_interval(a, len(ranks))] for name, a in named.items()},
        images=len(ranks),
        images_sha256=images.hexdigest(),
        details={"classes": classes},
        lines=[describe(metrics, classes)],
        warnings=shifted_labels(shifts),
        best=best,
    )


def read_ground_truth(dataset: Path, config: CfgNode, ids: Sequence[int]) -> dict[str, Any]:
    """The COCO annotations of the config's split, in the form for pycocotools. Raises UserError if they do not contain
    all image ids `ids`."""
    path = annotation_path(dataset, config.DATASET.TEST)
    annotations = read_annotations(path)
    unknown = sorted(set(ids) - {image.image_id for image in annotations.images})
    if unknown:
        found, hint = first_few(map(str, unknown)), "give the DATASET that the inputs were made from"
        raise UserError("images of the manifest are missing", where=path, found=found, hint=hint)
    return annotations.truth()


def check_people(people: list[dict[str, Any]], found: Sequence[PosePrediction], where: Path) -> None:
    """Raise FormatError if the number of people on an image differs between keypoints and predictions."""
    counted: dict[int, int] = defaultdict(int)
    for person in people:
        counted[person["image_id"]] += 1
    expected = {each.image_id: each.people for each in found if each.people}
    wrong = [str(key) for key in sorted(counted.keys() | expected.keys()) if counted.get(key) != expected.get(key)]
    if wrong:
        what = "number of people differs from predictions.jsonl for these images"
        raise FormatError(what, where=where, found=first_few(wrong), hint=f"rm {where}; make eval")


def evaluate_people(predictions: Path, keypoints: Path, dataset: Path, config: CfgNode) -> Evaluation:
    """Compute COCO's AP and AR values for the people in `keypoints` on the images of `predictions`."""
    from hrnet.pose.average_precision import Detections, evaluate, ground_truth, keypoint_similarities, percentages

    found, people = list(read_predictions(predictions, PosePrediction)), read_keypoints(keypoints)
    check_people(people, found, keypoints)
    ids = [each.image_id for each in found]
    evaluation = evaluate(ground_truth(read_ground_truth(dataset, config, ids)), people, ids)
    detections = Detections.from_evaluation(evaluation)
    if not detections.people.any():
        none, hint = f"none on {plural(len(ids), 'image')}", "give more images: LIMIT=0"
        where = annotation_path(dataset, config.DATASET.TEST)
        raise UserError("no person with keypoints, AP is undefined", where=where, found=none, hint=hint)
    present = dict(zip(detections.images.tolist(), detections.people.tolist()))
    gears = group_precisions(
        detections, (("x".join(map(str, each.gear)), each.image_id) for each in sorted(found, key=lambda i: i.gear))
    )
    counts = sorted((count, image_id) for image_id, count in present.items() if count)
    crowds = group_precisions(detections, ((crowd(count), image_id) for count, image_id in counts))
    alone = dict(zip(detections.images.tolist(), detections.image_average_precisions().tolist()))
    worst = sorted(
        (each for each in found if present[each.image_id]), key=lambda i: (alone[i.image_id], -present[i.image_id])
    )[:WORST]
    similarities, pairs = (values.tolist() for values in keypoint_similarities(evaluation))
    metrics = percentages(evaluation)
    lines = ["  ".join(f"{name} {percent(value)}" for name, value in metrics.items())]
    lines += ["by gear (height x width):"]
    lines += [f"{gear:>9}: {plural(each['images'], 'image')}, AP {percent(each['AP'])}" for gear, each in gears.items()]
    return Evaluation(
        metric="AP",
        metrics=metrics,
        interval95={"AP": [100 * end for end in detections.interval95()]},
        images=len(evaluation.params.imgIds),
        images_sha256=list_sha256((each.source, each.image_id) for each in found),
        details={
            "people": len(people),
            "gears": gears,
            "crowds": crowds,
            "keypoints": {
                name: {"pairs": count, "similarity": value if count else None}
                for name, value, count in zip(NAMES, similarities, pairs)
            },
            "worst_images": [
                {
                    "source": each.source,
                    "image_id": each.image_id,
                    "AP": 100 * alone[each.image_id],
                    "people": present[each.image_id],
                }
                for each in worst
            ],
        },
        lines=lines,
    )


def crowd(people: int) -> str:
    """The group for an image with this number of people: `1`, `2`, `3-4`, `5-8` or `9+`."""
    return next((name for name, most in CROWDS.items() if people <= most), "9+")


def group_precisions(detections: Detections, members: Iterable[tuple[str, int]]) -> dict[str, dict[str, Any]]:
    """{group: number of images, and their AP in percent, None without people}. `members`: group and image id."""
    groups: dict[str, list[int]] = defaultdict(list)
    for name, image_id in members:
        groups[name].append(image_id)
    values = {name: detections.subset_average_precision(ids) for name, ids in groups.items()}
    return {
        name: {"images": len(groups[name]), "AP": None if np.isnan(value) else 100 * value}
        for name, value in values.items()
    }


def percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.1f}"
