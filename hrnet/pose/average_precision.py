"""COCO's keypoint AP and AR by pycocotools. In addition, the AP of a subset of the images, for example of one gear,
and a confidence interval of the AP.

Source: COCOeval of https://github.com/cocodataset/cocoapi (PythonAPI/pycocotools/cocoeval.py); the interval is Efron's
percentile bootstrap over images (The Annals of Statistics 7, 1979).
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats
MAX_PEOPLE = 20  # per image, with the highest scores: COCO's rule for keypoints
RESAMPLES = 200  # of the bootstrap
SEED = 0


def ground_truth(dataset: dict[str, Any]) -> COCO:
    """Index the content of a COCO annotation file. The output that pycocotools prints is dropped."""
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def evaluate(truth: COCO, people: list[dict[str, Any]], image_ids: Sequence[int]) -> COCOeval:
    """Compare COCO keypoint results (`image_id`, `category_id`, `keypoints` [51], `score`) with the ground truth
    on these images; `stats` of the result are the ten FIGURES as fractions, -1 if undefined."""
    with contextlib.redirect_stdout(io.StringIO()):
        # loadRes modifies the results that it gets, and cannot index an empty list.
        found = truth.loadRes(copy.deepcopy(people)) if people else ground_truth({**truth.dataset, "annotations": []})
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def percentages(evaluation: COCOeval) -> dict[str, Optional[float]]:
    """The ten FIGURES in percent; None if undefined."""
    return {name: 100 * float(value) if value >= 0 else None for name, value in zip(FIGURES, evaluation.stats)}


@dataclass(frozen=True)
class Detections:
    """The D detections of an evaluation of N images, best first, for T OKS thresholds."""

    images: np.ndarray  # int [N], ids in the evaluation's order
    owner: np.ndarray  # int [D], index into `images`
    hit: np.ndarray  # bool [T, D]
    miss: np.ndarray  # bool [T, D]; if COCO ignores the person, neither hit nor miss is set
    people: np.ndarray  # int [N], people in the ground truth
    recalls: np.ndarray  # float [R], recall values at which precision is sampled

    @staticmethod
    def from_evaluation(evaluation: COCOeval) -> Detections:
        params = evaluation.params
        assert len(params.catIds) == 1 and params.areaRngLbl[0] == "all"
        # The first area range; None for an image without annotated and without found people
        images = evaluation.evalImgs[: len(params.imgIds)]
        evaluated = [(i, image) for i, image in enumerate(images) if image is not None]
        scores = [image["dtScores"][:MAX_PEOPLE] for _, image in evaluated]
        owner = np.repeat([i for i, _ in evaluated], [len(each) for each in scores]).astype(np.int64)
        order = np.argsort(-np.concatenate([[], *scores]), kind="mergesort")
        none = np.zeros((len(params.iouThrs), 0), dtype=bool)
        matched = np.concatenate([none, *(image["dtMatches"][:, :MAX_PEOPLE] > 0 for _, image in evaluated)], axis=1)
        ignored = np.concatenate(
            [none, *(image["dtIgnore"][:, :MAX_PEOPLE].astype(bool) for _, image in evaluated)], axis=1
        )
        people = np.zeros(len(images), dtype=np.int64)
        for i, image in evaluated:
            people[i] = np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
        hit, miss = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
        return Detections(np.asarray(params.imgIds), owner[order], hit, miss, people, np.asarray(params.recThrs))

    def average_precision(self, weights: np.ndarray) -> float:
        """AP as COCOeval.accumulate computes it, with image i counted weights[i] times; weights: [N]. NaN without
        people in the ground truth."""
        people = float(weights @ self.people)
        if people == 0:
            return float("nan")
        each = weights[self.owner]
        hits, misses = np.cumsum(self.hit * each, axis=1), np.cumsum(self.miss * each, axis=1)
        precision = hits / (hits + misses + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.pad(envelope, ((0, 0), (0, 1)))  # after the last detection, precision is 0
        at = [np.searchsorted(row, self.recalls, side="left") for row in hits / people]
        return float(np.mean(np.take_along_axis(padded, np.asarray(at), axis=1)))

    def subset_average_precision(self, image_ids: Sequence[int]) -> float:
        """AP of a subset of the images, a fraction."""
        return self.average_precision(np.isin(self.images, np.asarray(image_ids)).astype(np.float64))

    def image_average_precisions(self) -> np.ndarray:
        """AP of each image alone, float [N], fractions; NaN for images without people in the ground truth."""
        order = np.argsort(self.owner, kind="stable")  # within an image still best first
        ends = np.cumsum(np.bincount(self.owner, minlength=len(self.images)))
        values = np.full(len(self.images), np.nan)
        for i in np.flatnonzero(self.people):
            own = order[ends[i - 1] if i else 0 : ends[i]]
            alone = Detections(
                self.images[i : i + 1],
                np.zeros(len(own), np.int64),
                self.hit[:, own],
                self.miss[:, own],
                self.people[i : i + 1],
                self.recalls,
            )
            values[i] = alone.average_precision(np.ones(1))
        return values

    def interval95(self) -> tuple[float, float]:
        """95% bootstrap interval of the AP, fractions; NaN without people in the ground truth."""
        random = np.random.default_rng(SEED)
        count = len(self.images)
        drawn = [random.multinomial(count, np.full(count, 1 / count)).astype(np.float64) for _ in range(RESAMPLES)]
        values = np.array([self.average_precision(weights) for weights in drawn])
        if np.isnan(values).all():
            return float("nan"), float("nan")
        low, high = np.nanpercentile(values, (2.5, 97.5))
        return float(low), float(high)


def keypoint_similarities(evaluation: COCOeval) -> tuple[np.ndarray, np.ndarray]:
    """The mean similarity of each keypoint, float [K], NaN without pairs; and the number of its pairs, int [K].

    A pair is a found keypoint and the same keypoint in the annotation, if it is labelled there and pycocotools matches
    the two people at OKS 0.5. Its similarity is COCO's exp(-d^2 / (2 s^2 k^2)): d is the distance in pixels, s^2 the
    person's area, and k the keypoint's constant."""
    params = evaluation.params
    variances = (2 * params.kpt_oks_sigmas) ** 2
    sums, counts = np.zeros(len(variances)), np.zeros(len(variances), np.int64)
    for image in evaluation.evalImgs[: len(params.imgIds)]:  # the first area range: all
        for found_id, true_id in zip(image["dtIds"], image["dtMatches"][0]) if image is not None else ():
            truth = evaluation.cocoGt.anns.get(int(true_id))
            if not truth or truth["iscrowd"] or not truth["num_keypoints"]:  # COCO ignores these
                continue
            true = np.reshape(truth["keypoints"], (-1, 3)).astype(np.float64)
            found = np.reshape(evaluation.cocoDt.anns[found_id]["keypoints"], (-1, 3))
            square = ((found[:, :2] - true[:, :2]) ** 2).sum(axis=1)
            labelled = true[:, 2] > 0
            sums += np.where(labelled, np.exp(-square / (2 * (truth["area"] + np.spacing(1)) * variances)), 0.0)
            counts += labelled
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0), counts
