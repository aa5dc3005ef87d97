"""Write the records of a run as an HTML page: verdict, accuracy, speed, worst images, differences from an older run.

    python -m report.write --cfg hrnet_w18 --build build/hrnet_w18 --output build/hrnet_w18/report.html \\
        --metrics build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json --dataset /data/imagenet

Reads    the metrics record with its predictions, and the records of other stages below --build; from --dataset only the
         images that are shown and, for pose, the annotations. --base: the metrics record of an older run, with its
         predictions in the directory beside it
Writes   --output. No stage runs. Where a record is missing, the page shows the command that writes it
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Optional

from hrnet.class_folders import names_of
from hrnet.cli import UserError, command, plural
from hrnet.config import add_cfg_argument
from hrnet.io.coco import annotation_path, read_annotations, read_keypoints
from hrnet.io.predictions import ClassPrediction, read_predictions
from hrnet.io.records import FormatError
from make import charts
from report import accuracy, changes, classes, extras, overview, speed
from report.page import LARGEST, Page, check_installed
from report.run import Run, read_metrics, read_predictions_of, read_run
from report.sources import Source, Sources
from report.thumbnails import annotated_people, found_people, pose_pair, thumbnail


def class_names(run: Run) -> list[str]:
    """The config's class names, or else those of the data set's class directories; may be empty."""
    found = read_predictions(run.predictions.path, ClassPrediction)
    known: list[str] = run.config.INPUT.CLASS_NAMES
    return known or names_of(((each.source, each.label) for each in found), run.metrics.content["classes"])


def classification(run: Run, own: dict[str, Any], dataset: Optional[Path], names: list[str]) -> dict[str, Any]:
    """The part of the page for a classifier; adds `classes` to `own`."""
    own["classes"] = content = classes.collect(read_predictions(run.predictions.path, ClassPrediction), names)
    bins = content["reliability"]
    lines = [charts.Curve("this run", [each["mean"] for each in bins], [each["top1"] / 100 for each in bins])]
    lines.append(charts.Curve("perfectly calibrated", [0, 1], [0, 1], grey=True))
    return {
        "thumbnails": [thumbnail(dataset, each["source"]) for each in content["worst_images"]],
        "reliability_chart": charts.curves(lines, "mean probability of the best class", "fraction that is right"),
    }


def pose(run: Run, sources: Sources, own: dict[str, Any], dataset: Optional[Path]) -> dict[str, Any]:
    """The part of the page for a pose model."""
    content = run.metrics.content
    keypoints = run.path.with_suffix("") / "keypoints.json"
    annotations = annotation_path(dataset, run.config.DATASET.TEST) if dataset else Path("no data set")
    worst = content.get("worst_images", [])
    pairs: list[Optional[tuple[str, str]]] = [None] * len(worst)
    listed = sources.file(annotations)
    if sources.file(keypoints) and listed:
        found, true = found_people(read_keypoints(keypoints)), annotated_people(read_annotations(annotations).people)
        pairs = [
            pose_pair(dataset, each["source"], found.get(each["image_id"], []), true.get(each["image_id"], []))
            for each in worst
        ]
    joints = {name: each["similarity"] for name, each in content.get("keypoints", {}).items() if each["pairs"]}
    names = [name.replace("_", " ") for name in joints]
    return {
        "pairs": pairs,
        "annotations": listed,
        "keypoints_chart": charts.bars(names, list(joints.values()), "mean similarity (0 to 1)") if joints else "",
    }


def base_run(run: Run, sources: Sources, own: dict[str, Any], base: Path, names: Any) -> list[Source]:
    """The older run's metrics and predictions; adds `base` to `own`. Raises FormatError if they are missing or for
    another task."""
    hint = "give BASE=<metrics record>, with its predictions in the directory beside it"
    older = read_metrics(sources, base, hint)
    if older.content["gate"]["metric"] != run.metric:
        found = older.content["gate"]["metric"]
        raise FormatError("the older run is for another task", where=base, expected=run.metric, found=found, hint=hint)
    before = read_predictions_of(sources, older, hint)
    one, other = (changes.results(Path(each.path), run.pose) for each in (before, run.predictions))
    if not one.keys() & other.keys():
        raise FormatError("the older run has no image of this run", where=base, hint="give BASE of the same data set")
    own["base"] = changes.compare(one, other, str if run.pose else names)
    return [older, before]


def run(args: argparse.Namespace) -> None:
    """Read the records and write the page."""
    check_installed()
    sources = Sources(args.output)
    one = read_run(sources, args.cfg, args.build, args.metrics, args.inputs, args.run_record)
    dataset = args.dataset if args.dataset and args.dataset.exists() else None
    own: dict[str, Any] = {}
    names = [] if one.pose else class_names(one)
    context = {
        "run": one,
        "pose": one.pose,
        "metrics": one.metrics,
        "overview": overview.section(one, sources, args.model, args.cfg),
        "accuracy": accuracy.section(one, sources, own),
        "speed": speed.section(one, sources, own),
        "images": pose(one, sources, own, dataset) if one.pose else classification(one, own, dataset, names),
        "extras": extras.section(one, sources, own),
        "dataset": dataset,
        "base": None,
        "listed": changes.LISTED,
    }
    if args.base:
        context["base"], context["before"] = base_run(
            one, sources, own, args.base, lambda label: classes.class_name(names, label)
        )
    size = Page(sources, own).write("run.html", **context)
    if size > LARGEST:
        print(f"warning: {args.output} is large: {size:,} bytes", file=sys.stderr)
    print(f"wrote {args.output} ({size / 1000:.0f} kB, from {plural(len(sources.listed()), 'file')})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m report.write", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--build", type=Path, required=True, help="directory with the products of the model")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics record to report")
    parser.add_argument("--output", type=Path, required=True, help="page to write")
    parser.add_argument("--inputs", type=Path, help="directory with the manifest (default: below --build)")
    parser.add_argument("--run", dest="run_record", type=Path, help="run record (default: below --build)")
    parser.add_argument("--model", type=Path, help="compiled model, for the commands that made it")
    parser.add_argument("--dataset", type=Path, help="data set, for the images that are shown")
    parser.add_argument("--base", type=Path, help="metrics record of an older run to compare with")
    args = parser.parse_args(argv)
    args.inputs = args.inputs or args.build / "prep" / args.metrics.parent.name
    if not args.build.is_dir():
        raise UserError("no such directory", where=args.build, hint="run make eval")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
