"""The reference on all parts, from what `train.<task>.reference` or `atc.reference` wrote for each of them."""

from __future__ import annotations

from collections.abc import Mapping
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

SAME = ("config_sha256", "weights_sha256", "external_data", "tool", "flip", "classes")  # in the records of all parts


def merge_references(parts: Mapping[Path, Part], config: CfgNode, dataset: Optional[Path], output: Path) -> Path:
    """Write the metrics record of the reference on all images to `output`, which is returned. Raises FormatError where
    a part has none, or one of other images, weights or another version of PyTorch or onnxruntime."""
    pose = next(iter(parts.values())).keypoints_sha256 is not None
    files = {path.stem: reference_path(path) for path in parts}
    for path in files.values():
        if not path.is_file():
            hint = "give make part REFERENCE=torch, or REFERENCE=onnx, as for the other parts"
            raise FormatError("no reference for this part", where=path, hint=hint)
    stamp = Stamp.of(["postprocess.reference"], {}, files)
    if is_current(output, stamp, [output]):
        touch(output, [output])
        return output
    records = {path: read_record(reference_path(path), "metrics") for path in parts}
    first, images, ids = next(iter(records.values())), ListHash(), []
    for path, record in records.items():
        own = ListHash()
        kind: type[Prediction] = PosePrediction if pose else ClassPrediction
        for each in read_predictions(predictions_path(path), kind):
            fact = each.image_id if isinstance(each, PosePrediction) else each.label
            own.add(each.source, fact)
            images.add(each.source, fact)
            ids.append(fact)
        differing = [name for name in SAME if record.get(name) != first.get(name)]
        if record.get("images_sha256") != own.hexdigest():
            differing.append("images")
        if differing:
            hint = f"rm {reference_path(path)}; make part SHARD={parts[path].part} with the same REFERENCE"
            what = f"not of the same {differing[0]} as the others"
            raise FormatError(what, where=reference_path(path), found=record.get(differing[0]), hint=hint)
    content = {
        "metrics": pose_metrics(parts, ids, config, dataset) if pose else class_metrics(records, len(ids)),
        "images": len(ids),
        **{name: first[name] for name in SAME if name in first},
        "images_sha256": images.hexdigest(),
        "parts": {path.name: sha256_file(path) for path in files.values()},
    }
    make_folder(output.parent)
    write_record(output, "metrics", content)
    write_stamp(output, stamp, [output])
    return output


def class_metrics(records: Mapping[Path, dict[str, Any]], images: int) -> dict[str, float]:
    """`top1` to `top5` in percent, from the hits of all parts."""
    hits = np.sum([record["hits"] for record in records.values()], axis=0)
    return {f"top{n}": float(value) for n, value in enumerate(hits / images * 100, 1)}


def pose_metrics(
    parts: Mapping[Path, Part], ids: list[int], config: CfgNode, dataset: Optional[Path]
) -> dict[str, Optional[float]]:
    """COCO's ten figures in percent, from the people that PyTorch found in all parts."""
    from hrnet.pose.average_precision import evaluate, ground_truth, percentages
    from postprocess.evaluation import read_truth

    if dataset is None:
        raise UserError("pose needs --dataset, for its annotations")
    people = [person for path in parts for person in read_keypoints(reference_keypoints_path(path))]
    return percentages(evaluate(ground_truth(read_truth(dataset, config, ids)), people, ids))
