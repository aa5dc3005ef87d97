"""Merge the results of all parts of a data set: predictions, accuracy, and a metrics record with the gate's verdict.

    python -m postprocess.merge --cfg hrnet_w18 --shards 16 --max_rejected 0 \\
        --parts build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32/parts \\
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    <parts>/<k>-of-<shards>.json and the files beside it (hrnet/io/parts.py), computed on any machine; for pose
         COCO's annotations; with --measured also the reference of each part, <k>-of-<shards>.reference.json,
         by `train.<task>.reference` or `atc.reference`
Writes   <output without .json>/predictions.jsonl, and result.json or keypoints.json; with --measured the reference for
         all parts; last the metrics record --output and a stamp (hrnet/io/stamp.py)
Rejects  missing parts, parts whose record contains another part number than the file name, and parts with another image
         list, config, weights, compiled model, input dtype, flip test, tool or code than the others

The result equals that of one run over all images.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.calibration import count_calibrated
from hrnet.cli import UserError, WorkFailed, command, first_few, integer, plural, real
from hrnet.code import stages_sha256
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.io.coco import annotation_path, read_keypoints, write_keypoints
from hrnet.io.files import make_folder, replacing, sha256_file
from hrnet.io.parts import IDENTITY, Part, keypoints_path, predictions_path
from hrnet.io.predictions import ClassPrediction, PosePrediction, read_predictions
from hrnet.io.records import FormatError, write_record
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.schemas import CLASSIFIERS, POSE
from hrnet.shards import Shard
from postprocess.evaluation import METRIC, Evaluation, evaluate_classes, evaluate_people
from postprocess.gate import find_reference, judge, other_references
from postprocess.part import whole_part
from postprocess.plausible import at_chance, count_changed, other_model, other_weights
from postprocess.reference import merge_references


def read_parts(folder: Path, shards: int) -> dict[Path, Part]:
    """Read the records of all parts, in order. Raises FormatError for a missing part or a wrong part number."""
    paths = {Shard(number, shards): folder / f"{Shard(number, shards).name}.json" for number in range(1, shards + 1)}
    missing = [shard for shard, path in paths.items() if not path.is_file()]
    if missing:
        there = [str(shard) for shard in paths if shard not in missing]
        what, found = f"parts are missing: {first_few(map(str, missing))}", first_few(there) or "none"
        hint = f"make part SHARD={missing[0]}"
        raise FormatError(what, where=folder, expected=plural(shards, "part"), found=found, hint=hint)
    parts = {}
    for shard, path in paths.items():
        parts[path] = Part.read(path)
        if parts[path].part != shard:
            hint = f"rm {path}; make part SHARD={shard}"
            raise FormatError("wrong part number", where=path, expected=shard, found=parts[path].part, hint=hint)
    return parts


def check_parts(parts: dict[Path, Part], cfg: Path, config_hash: str, code: Optional[str]) -> None:
    """Raise FormatError if a part differs from most other parts, or from this config or code."""
    values = list(parts.values())
    kinds = [tuple(part.identity(what) for what in IDENTITY) for part in values]
    usual = values[kinds.index(Counter(kinds).most_common(1)[0][0])]
    for path, part in parts.items():
        if what := part.differs(usual):
            raise_foreign(path, part, what, usual.identity(what))
    first = next(iter(parts))
    if usual.config_sha256 != config_hash:
        raise_foreign(first, usual, "config", (config_hash,), str(cfg))
    if code is not None and usual.code_sha256 != code:
        raise_foreign(first, usual, "code", (code,), "this version")
    images, rejected = (sum(getattr(part, name) for part in values) for name in ("images", "rejected"))
    if not images <= usual.listed <= images + rejected:
        what = "the parts together have the wrong number of images"
        expected, found = f"{usual.listed}, as in the list of images", f"{images} and {rejected} rejected"
        raise FormatError(what, where=first.parent, expected=expected, found=found)


def raise_foreign(path: Path, part: Part, what: str, expected: Sequence[Any], other: str = "the other parts") -> None:
    """Raise FormatError for a part that differs in `what`, a key of IDENTITY."""
    pairs = [(actual, wanted) for actual, wanted in zip(part.identity(what), expected) if actual != wanted]
    found, wanted = (str(value)[:40] for value in pairs[0])
    hint = f"rm {path}; make part SHARD={part.part}"
    raise FormatError(
        f"part of another run: {what} differs from {other}", where=path, expected=wanted, found=found, hint=hint
    )


def join_files(parts: dict[Path, Part], predictions: Path, keypoints: Optional[Path]) -> None:
    """Join the predictions and, for pose, the keypoints of all parts, in order."""
    make_folder(predictions.parent)
    with replacing(predictions) as temporary, open(temporary, "wb") as whole:
        for path in parts:
            with open(predictions_path(path), "rb") as part:
                shutil.copyfileobj(part, whole)
    if keypoints:
        write_keypoints(keypoints, (person for path in parts for person in read_keypoints(keypoints_path(path))))


def rates(parts: Sequence[Part]) -> dict[str, Optional[float]]:
    """Images per second: of inference including file I/O, and of the device alone (None if a part does not contain
    it)."""
    alone = [(part.images, part.device_images_per_second) for part in parts]
    seconds = [images / rate for images, rate in alone if rate]
    inferred, spent = sum(part.inferred for part in parts), sum(part.seconds["infer"] for part in parts)
    if len(parts) == 1:
        rate = alone[0][1]
    else:
        rate = sum(images for images, _ in alone) / sum(seconds) if len(seconds) == len(parts) else None
    return {"infer end to end": inferred / spent if spent else None, "device alone": rate}


def metrics_content(
    config: CfgNode,
    parts: dict[Path, Part],
    evaluation: Evaluation,
    hashes: dict[str, str],
    reference: Optional[dict[str, Any]],
    calibrated: int,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """The content of the metrics record. `hashes`: of the joined files; `calibrated`: how many of the evaluated
    images also calibrated the int8 model."""
    values = list(parts.values())
    available = values[0].available
    images, rejected = (sum(getattr(part, name) for part in values) for name in ("images", "rejected"))
    why_not = None if reference else f"no reference is known; give {other_references(config)}"
    by_config = args.reference is None and not args.judge_subset
    if reference and by_config and (available or images + rejected != reference["images"]):
        published = f"the reference ({reference['source']}) is for {reference['images']} images"
        whole = "LIMIT=0, or " if available == reference["images"] else ""
        why_not = f"{published}; give {whole}{other_references(config)}, or REFERENCE=config to compare anyway"
    value = evaluation.metrics[evaluation.metric] or 0.0
    judged = judge(evaluation.metric, value, reference, args.gate, why_not)
    low = value if values[0].keypoints_sha256 else evaluation.interval95[evaluation.metric][0]
    warnings = [*(evaluation.warnings or at_chance(low, values[0].classes))]
    exported = other_weights(args.reference, values[0].weights_sha256) if args.reference else []
    if judged["verdict"] == "pass" and not exported:
        lower = min(value, judged["reference"][evaluation.metric])
        warnings += other_model(judged["reference"].get("changed"), images, lower)
    warnings += exported
    seconds: Counter[str] = Counter()
    for part in values:
        seconds.update(part.seconds)
    steps = {step: 1000 * spent / images for step, spent in seconds.items() if step != "infer"}
    records = {"parts": {path.name: sha256_file(path) for path in parts}} if len(parts) > 1 else values[0].made_from
    return {
        "name": args.cfg.stem,
        "metrics": evaluation.metrics,
        "interval95": evaluation.interval95,
        "images": images,
        **({"available": available} if available else {}),
        **evaluation.details,
        "batch": values[0].batch,
        "counts": {
            "inputs": images,
            "outputs": images,
            "evaluated": evaluation.images,
            "rejected": rejected,
        },
        **({"rejected_in": [str(path) for path in rejected_in(parts, args)]} if rejected else {}),
        **judged,
        **({"warning": "; ".join(warnings)} if warnings else {}),
        "images_sha256": evaluation.images_sha256,
        **({"calibration_in_eval": calibrated} if calibrated else {}),
        "evaluated": {**records, **hashes, "model_sha256": values[0].model_sha256},
        "model": values[0].metadata,
        "tool": values[0].tool,
        **({"flip": values[0].flip, "decode_milliseconds_an_image": steps} if steps else {}),
        "images_per_second": rates(values),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def rejected_in(parts: dict[Path, Part], args: argparse.Namespace) -> list[Path]:
    """The records that list the rejected images: that of preprocessing, or those of the parts."""
    listing = [path for path, part in parts.items() if part.reasons]
    manifest: Optional[Path] = getattr(args, "manifest", None)  # of a run over all images
    return listing or ([manifest.with_name("rejected.json")] if manifest else list(parts))


def run(args: argparse.Namespace) -> None:
    """Write the joined files and the metrics record, or do nothing if they are up to date."""
    started = time.perf_counter()
    parts = read_parts(args.parts, args.shards)
    first = next(iter(parts.values()))
    task = "pose" if first.keypoints_sha256 else "classification"
    config = load_config(args.cfg, *([POSE] if task == "pose" else CLASSIFIERS))
    whole = args.shards == 1 and not first.code_sha256
    check_parts(parts, args.cfg, config_sha256(config), None if whole else stages_sha256(task))
    rejected = sum(part.rejected for part in parts.values())
    if rejected > args.max_rejected and not whole:  # in a whole run preprocessing has checked this
        reasons = first_few(f"{source}: {why}" for part in parts.values() for source, why in part.reasons.items())
        hint = f"fix or remove them, or allow them with MAX_REJECTED={rejected}"
        raise WorkFailed(f"{plural(rejected, 'file')} rejected", where=args.parts, found=reasons, hint=hint)

    folder = args.output.with_suffix("")
    predictions, keypoints = folder / "predictions.jsonl", folder / "keypoints.json" if task == "pose" else None
    products = [predictions, keypoints or folder / "result.json"]
    files = {"cfg": args.cfg, **{path.stem: path for path in parts}}
    if keypoints:
        if args.dataset is None:
            raise UserError("pose needs --dataset with the annotations")
        files["annotations"] = annotation_path(args.dataset, config.DATASET.TEST)
        if not files["annotations"].is_file():
            raise FormatError("no annotation file", where=files["annotations"], hint="give DATASET=<directory>")
    if args.measured:
        args.reference = merge_references(parts, config, args.dataset, args.measured)
    files |= {"reference": args.reference} if args.reference else {}
    stamp = Stamp.compute(["postprocess.merge"], {"gate": args.gate, "judge_subset": args.judge_subset}, files)
    if is_current(args.output, stamp, [*products, args.output]):
        touch(args.output, [*products, args.output])
        return
    join_files(parts, predictions, keypoints)
    if keypoints:
        evaluation = evaluate_people(predictions, keypoints, args.dataset, config)
    else:
        evaluation = evaluate_classes(predictions, first.classes, products[1])
    reference = find_reference(METRIC[task], args.reference, config, evaluation.images_sha256)
    if reference and args.reference and evaluation.best is not None:
        changed = count_changed(evaluation.best, args.reference)
        reference |= {"changed": changed} if changed is not None else {}
    hashes = {"predictions_sha256": sha256_file(predictions)}
    hashes |= {"keypoints_sha256": sha256_file(keypoints)} if keypoints else {}
    kind = PosePrediction if keypoints else ClassPrediction
    calibrated = count_calibrated(first.metadata, (each.source for each in read_predictions(predictions, kind)))
    content = metrics_content(config, parts, evaluation, hashes, reference, calibrated, args)
    write_record(args.output, "metrics", content)
    write_stamp(args.output, stamp, [*products, args.output])
    seconds, count = time.perf_counter() - started, f" of {len(parts)} parts" if len(parts) > 1 else ""
    print(f"evaluated {plural(content['images'], 'image')}{count} into {args.output} ({seconds:.1f} s)")
    print(*evaluation.lines, sep="\n")
    if calibrated:
        split = config.DATASET.TRAIN if keypoints else ""
        other = f"images/{split} with its annotation file" if keypoints else "train/ with images (they need no labels)"
        hint = f"to calibrate with other images, add {other} to DATASET, and run the same command"
        print(f"warning: {calibrated} of {plural(content['images'], 'image')} also calibrated the int8 model; {hint}")


def merge_whole(args: argparse.Namespace) -> None:
    """Evaluate a run over a whole data set, which has one part. `args`: of postprocess.classification or
    postprocess.pose."""
    dataset = getattr(args, "dataset", None)
    parts = whole_part(args.output).parent
    more = {"parts": parts, "shards": 1, "dataset": dataset, "max_rejected": 0, "measured": None}
    run(argparse.Namespace(**{**vars(args), **more}))


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the comparison with a reference."""
    figure = "metrics record to compare with (default: the published figure in the config)"
    parser.add_argument("--reference", type=Path, help=figure)
    subset = "also compare a subset of the data set with the published figure"
    parser.add_argument("--judge_subset", action="store_true", help=subset)
    parser.add_argument("--gate", type=real(0, 100), default=1.0, help="allowed drop of Top-1 or AP, percentage points")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.merge", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--parts", type=Path, required=True, help="directory with the records of the parts")
    parser.add_argument("--shards", type=integer(1), required=True, help="number of parts")
    parser.add_argument("--output", type=Path, required=True, help="metrics record to write")
    parser.add_argument("--dataset", type=Path, help="COCO directory with annotations, only for pose")
    parser.add_argument(
        "--max_rejected", type=integer(0), default=0, help="number of unreadable or unlabelled images to accept"
    )
    text = "merge the references of the parts into this record, and compare with it"
    parser.add_argument("--measured", type=Path, help=text)
    add_comparison_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
