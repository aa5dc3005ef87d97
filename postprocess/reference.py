"""Merge the reference over all parts from the records of `train.<task>.reference` or `atc.reference`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.io.coco import read_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.parts import Part, predictions_path, reference_keypoints_path, reference_path
from hrnet.io.predictions import ClassPrediction, PosePrediction, Prediction, read_predictions
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.shards import ListHash

SAME = (
    "config_sha256",
    "weights_sha256",
    "external_data",
    "tool",
    "flip",
    "classes",
)  # keys that must be equal in all parts


def merge_references(parts: Mapping[Path, Part], config: CfgNode, dataset: Optional[Path], output: Path) -> Path:
    """Write the reference's metrics record for all images to `output` and return its path. Raises FormatError if the
    record of a part is missing, is for other images than the part, or differs from the first one in a key of SAME."""
    pose = next(iter(parts.values())).keypoints_sha256 is not None
    files = {path.stem: reference_path(path) for path in parts}
    for part, path in zip(parts.values(), files.values()):
        if not path.is_file():
            others = [read_record(other, "metrics") for other in files.values() if other.is_file()]
            hint = f"make part REFERENCE={measured_by(others)} SHARD={part.part}"
            raise FormatError("the reference of this part is missing", where=path, hint=hint)
    stamp = Stamp.compute(["postprocess.reference"], {}, files)
    if is_current(output, stamp, [output]):
        touch(output, [output])
        return output
    records = {path: read_record(reference_path(path), "metrics") for path in parts}
    first, images, ids = next(iter(records.values())), ListHash(), []
    for path, record in records.items():
        of_part = ListHash()
        kind: type[Prediction] = PosePrediction if pose else ClassPrediction
        for each in read_predictions(predictions_path(path), kind):
            target = each.image_id if isinstance(each, PosePrediction) else each.label
            of_part.add(each.source, target)
            images.add(each.source, target)
            ids.append(target)
        differing = [name for name in SAME if record.get(name) != first.get(name)]
        if record.get("images_sha256") != of_part.hexdigest():
            differing.append("images")
        if differing:
            by = measured_by([first])
            hint = f"rm {reference_path(path)}; make part REFERENCE={by} SHARD={parts[path].part}"
            what = f"{differing[0]} of the reference differs from the other parts"
            raise FormatError(what, where=reference_path(path), found=record.get(differing[0]), hint=hint)
    predicted = [record["predicted"] for record in records.values() if "predicted" in record]  # not in older releases
    content = {
        "metrics": pose_metrics(parts, ids, config, dataset) if pose else class_metrics(records, len(ids)),
        "images": len(ids),
        **{name: first[name] for name in SAME if name in first},
        "images_sha256": images.hexdigest(),
        **({"predicted": list(chain.from_iterable(predicted))} if len(predicted) == len(parts) else {}),
        "parts": {path.name: sha256_file(path) for path in files.values()},
    }
    make_folder(output.parent)
    write_record(output, "metrics", content)
    write_stamp(output, stamp, [output])
    return output


def measured_by(records: Sequence[dict[str, Any]]) -> str:
    """The value of REFERENCE for which the first of these records was written."""
    return "onnx" if records and str(records[0].get("tool")).startswith("onnxruntime") else "torch"


def class_metrics(records: Mapping[Path, dict[str, Any]], images: int) -> dict[str, float]:
    """`top1` to `top5` in percent, from the numbers of hits in all parts."""
    hits = np.sum([record["hits"] for record in records.values()], axis=0)
    return {f"top{n}": float(value) for n, value in enumerate(hits / images * 100, 1)}


def pose_metrics(
    parts: Mapping[Path, Part], ids: list[int], config: CfgNode, dataset: Optional[Path]
) -> dict[str, Optional[float]]:
    """COCO's ten AP and AR values in percent, from the people that PyTorch found in all parts."""
    from hrnet.pose.average_precision import evaluate, ground_truth, percentages
    from postprocess.evaluation import read_ground_truth

    if dataset is None:
        raise UserError("pose needs --dataset with the annotations")
    people = [person for path in parts for person in read_keypoints(reference_keypoints_path(path))]
    return percentages(evaluate(ground_truth(read_ground_truth(dataset, config, ids)), people, ids))
