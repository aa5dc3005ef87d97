"""Compare the maps and the people of a pose model from stage to stage, to find where accuracy is lost.

    python -m compare.pose --cfg demo_pose --dataset data/demo_people --flip \\
        --manifest build/demo_pose/prep/demo_people-float32/manifest.json --onnx build/demo_pose/model.onnx \\
        --model build/demo_pose/om/bs1-float32-fp16.onnx \\
        --run build/demo_pose/out/demo_people-float32/onnxruntime-bs1-fp16_run.json \\
        --metrics build/demo_pose/eval/demo_people-float32/onnxruntime-bs1-fp16.json \\
        --output build/demo_pose/compare/demo_people-float32/onnxruntime-bs1-fp16/stages.json

Reads    the inputs beside the manifest, both models, the outputs of infer, eval's metrics and keypoints, and COCO's
         annotations; --torch_images and --torch_inputs: the people that train.pose.reference found with PyTorch on the
         images and on the inputs
Writes   <output> (kind `comparison`) and the same table as .md

The columns are those of compare.classification. The maps are compared without the flip test. People are matched by
OKS with those of the column before (compare/people.py). AP and number of people in the last column must be equal to
those in eval's metrics.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
from yacs.config import CfgNode

from compare import columns
from compare.columns import COMPILED, INFER, ONNX, TORCH_IMAGES, TORCH_INPUTS, Runner, Step
from compare.people import Person, by_image, matched, points
from compare.tables import Table
from hrnet.cli import UserError, command, first_few, plural, progress
from hrnet.config import config_sha256, load_config
from hrnet.inputs import planes, read_input
from hrnet.io.coco import read_keypoints
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.stamp import is_current, touch
from hrnet.pose.average_precision import evaluate, ground_truth, percentages
from hrnet.pose.decode import Settings, decode, read_settings, to_image
from hrnet.schemas import POSE
from postprocess.checks import check_inputs, check_manifest, check_run
from postprocess.decode import coco_results, read_outputs
from postprocess.evaluation import read_ground_truth

LISTED = 5  # changed images of each step on the screen
WIDTH_AXIS = {"NCHW": 3, "NHWC": 2}


def find_people(
    runner: Runner, values: np.ndarray, image: InputImage, settings: Settings, flip_axis: Optional[int]
) -> tuple[list[np.ndarray], list[Person]]:
    """The outputs of a model for one input [1, …], and the people in them. `flip_axis`: the axis to flip for the flip
    test; None: no flip test."""
    outputs = [np.asarray(output, np.float32) for output in runner(values)]
    flipped = None
    if flip_axis is not None:
        flipped = [np.asarray(each, np.float32) for each in runner(np.ascontiguousarray(np.flip(values, flip_axis)))]
    people = decode(outputs, flipped, settings)
    height, width = image.sides()
    keypoints = to_image(people.keypoints, image.center or [], image.scale or [], (width, height))
    return outputs, coco_results(image, keypoints, people.scores)


def compare_people(step: Step, manifest: Manifest, before: list[Person], after: list[Person]) -> list[float]:
    """The OKS of each person that is in both columns. Adds an image to `step.changed` if people were lost or found."""
    old, new, found = by_image(before), by_image(after), []
    for image in manifest.images:
        here = [people.get(image.image_id or 0, []) for people in (old, new)]
        same = matched(points(here[0]), points(here[1]))
        found += same
        if not len(same) == len(here[0]) == len(here[1]):
            counts = {"from": len(here[0]), "to": len(here[1]), "matched": len(same)}
            step.changed.append({"source": image.source, "image_id": image.image_id, **counts})
    return found


def compare_maps(args: argparse.Namespace, config: CfgNode, manifest: Manifest, run: RunRecord) -> dict[str, Any]:
    """Run the models on each input. Returns the people that each model found, and the steps from the maps of one column
    to those of the next; the last column is infer."""
    runners = {ONNX: Runner(args.onnx)}
    if columns.runnable(args.model):
        runners[COMPILED] = Runner(args.model)
    names, settings, folder = [*runners, INFER], read_settings(config), output_folder(args.run)
    steps = [Step(*pair) for pair in zip(names, names[1:])]
    people: dict[str, list[Person]] = {name: [] for name in runners}
    hint = f"rm {args.run}; make infer"
    for image in progress(manifest.images, unit="images"):
        values, maps = read_input(args.manifest.parent, image, manifest), {}
        for name, runner in runners.items():
            given, layout = (planes(values, config), "NCHW") if name == ONNX else (values, manifest.layout)
            axis = WIDTH_AXIS[layout] if args.flip else None
            maps[name], found = find_people(runner, given, image, settings, axis)
            people[name] += found
        files = [folder / name for name in run.files[image.stem]]
        maps[INFER] = read_outputs(files, image.sides(), hint)
        for step in steps:
            for before, after in zip(maps[step.before], maps[step.after]):
                step.sums.add(before, after)
    return {"people": people, "steps": steps}


def run(args: argparse.Namespace) -> None:
    config, manifest, run = load_config(args.cfg, POSE), Manifest.read(args.manifest), RunRecord.read(args.run)
    settings = {"config_sha256": config_sha256(config), "flip": args.flip, "dataset": str(args.dataset)}
    stamp = columns.make_stamp("compare.pose", args, settings)
    products = [args.output.with_suffix(".md"), args.output]
    if is_current(args.output, stamp, products):
        return touch(args.output, products)
    check_manifest(manifest, args.manifest, config, args.cfg)
    check_inputs(run.manifest_sha256, args.run, [sha256_file(args.manifest)], args.manifest, "run make infer")
    check_run(run, args.run, manifest, args.cfg, outputs=2)
    columns.check_model(args, run.model_sha256)
    metrics = columns.check_metrics(args.metrics, manifest)
    torch = {TORCH_IMAGES: args.torch_images, TORCH_INPUTS: args.torch_inputs}
    people = {name: read_keypoints(path) for name, path in torch.items() if path}
    computed = compare_maps(args, config, manifest, run)
    people |= computed["people"]
    people[INFER] = read_keypoints(args.metrics.with_suffix("") / "keypoints.json")
    known = {step.before: step for step in computed["steps"]}
    names = list(people)
    steps = [known.get(before) or Step(before, after) for before, after in zip(names, names[1:])]
    similar = [compare_people(step, manifest, people[step.before], people[step.after]) for step in steps]
    ids = [image.image_id or 0 for image in manifest.images]
    truth = ground_truth(read_ground_truth(args.dataset, config, ids))
    found = [
        {"name": name, "people": len(people[name]), **percentages(evaluate(truth, people[name], ids))} for name in names
    ]
    check_agrees(found[-1], metrics, args.metrics)
    make_folder(args.output.parent)
    records = [step.record() for step in steps]
    for record, values in zip(records, similar):
        record |= {"matched": len(values), "oks": float(np.mean(values)) if values else None}
    content = {
        "images": len(ids),
        "images_sha256": manifest.images_sha256(),
        "columns": found,
        "steps": records,
    }
    table = make_table(args.model.name, content, steps)
    return columns.write_result(args, stamp, table, changed_lines(steps), content)


def check_agrees(found: dict[str, Any], metrics: dict[str, Any], where: Path) -> None:
    """Raise UserError unless AP and number of people in the column of infer are equal to eval's."""
    pairs = {"AP": metrics["metrics"].get("AP"), "people": metrics.get("people")}
    for name, value in pairs.items():
        if value is None or found[name] is None or abs(found[name] - value) > 1e-9:
            what, expected = "the metrics and the keypoints of eval differ", f"{name} {found[name]}"
            raise UserError(what, where=where, expected=expected, found=value, hint="run make eval")


def make_table(model: str, content: dict[str, Any], steps: list[Step]) -> Table:
    """One column for each stage. The figures of a step are in the later one of its two columns."""
    shown, records = content["columns"], content["steps"]
    rows = [
        ["AP %", *("-" if column["AP"] is None else f"{column['AP']:.2f}" for column in shown)],
        ["people", *(str(column["people"]) for column in shown)],
        ["matched people", "", *(str(record["matched"]) for record in records)],
        [
            "mean OKS of matched people",
            "",
            *("-" if record["oks"] is None else f"{record['oks']:.6f}" for record in records),
        ],
        ["images with lost or new people", "", *(str(len(step.changed)) for step in steps)],
        *columns.difference_rows(steps, "maps"),
    ]
    title = f"{model} on {plural(content['images'], 'image')}; each column is compared with the one before it"
    return Table(title, ["", *(column["name"] for column in shown)], rows)


def changed_lines(steps: list[Step]) -> list[str]:
    """The images in which people were lost or found, one line for each step."""
    lines = []
    for step in steps:
        texts = [
            f"{each['source']} ({each['from']} -> {plural(each['to'], 'person', 'people')})" for each in step.changed
        ]
        if texts:
            lines.append(f"{step.before} -> {step.after}: lost or new people in {first_few(texts, LISTED)}")
    return lines or [columns.UNCHANGED]


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = columns.make_parser("compare.pose", __doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="COCO directory with annotations")
    parser.add_argument("--flip", action="store_true", help="with the flip test, if eval used it")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
