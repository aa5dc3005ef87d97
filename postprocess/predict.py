"""Print and write what a model finds on images without labels: the five most probable classes, or people.

    python -m postprocess.predict --cfg hrnet_w18 --manifest build/hrnet_w18/predict_work/prep/manifest.json \\
        --run build/hrnet_w18/predict_work/out/run_run.json --output build/hrnet_w18/predict

Reads    the manifest of inputs that preprocessing made with --images, the run records with their outputs (--run_flip:
         the flip test of a pose model), and the images; from the config INPUT.CLASS_NAMES,
         or else the names of the class directories in <--labelled>/manifest.json
Writes   the directory --output, which is replaced in one step: predictions.json, show.png with the first images, and
         predictions.csv (classes) or keypoints.json (people, as COCO results)
Locks    <output>_lock
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from hrnet.cli import UserError, command, cores, integer, plural
from hrnet.config import add_cfg_argument, load_config
from hrnet.images import open_image
from hrnet.io.coco import JOINTS, write_keypoints
from hrnet.io.files import replacing_folder, write_text
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import read_record, write_record
from hrnet.io.runs import RunRecord
from hrnet.schemas import POSE
from postprocess.decode import decode_runs
from postprocess.logits import read_logits
from postprocess.show import (
    CLASS_COLUMNS,
    CLASS_COUNT,
    MIN_PERSON_SCORE,
    POSE_COLUMNS,
    POSE_COUNT,
    guesses,
    save_sheet,
)
from postprocess.tiles import Guess, count_people, draw_classes, draw_poses
from postprocess.topn import (
    BLOCK_IMAGES,
    TOP,
    add_labelled_argument,
    best_classes,
    directory_names,
    label_offset,
    read_outputs,
)

HINT = "run make predict"


class Predicted(NamedTuple):
    """The results for all images, in the manifest's order."""

    entries: list[dict[str, Any]]  # for predictions.json
    lines: list[str]  # to print
    tiles: list[Image.Image]  # of the first images


def classify(args: argparse.Namespace, config: CfgNode, folder: Path) -> Predicted:
    """Find the most probable classes of each image; write predictions.csv."""
    manifest, _, files, dtype, size, softmax = read_outputs(args.cfg, args.manifest, args.run)
    offset = label_offset(size, manifest.classes, args.run)
    names = config.INPUT.CLASS_NAMES or directory_names(args.labelled, manifest.classes)
    best: list[list[Guess]] = []
    for start in range(0, len(files), BLOCK_IMAGES):
        logits = read_logits(files[start : start + BLOCK_IMAGES], dtype, size, f"rm {args.run}; make predict")
        classes, probabilities = best_classes(logits, min(TOP, size), softmax)
        rows = zip((classes - offset).tolist(), probabilities.tolist())
        best += [guesses(*row, names) for row in rows]
    found = list(zip(manifest.images, best))
    write_table(folder / "predictions.csv", found)
    tiles = []
    for image, five in found[:CLASS_COUNT]:
        with open_image(Path(image.source), HINT) as source:
            tiles.append(draw_classes(source, Path(image.source).name, None, five))
    return Predicted(
        entries=[
            {
                "image": image.source,
                "classes": [guess.label for guess in five],
                "names": [guess.name for guess in five],
                "probabilities": [round(guess.probability, 6) for guess in five],
            }
            for image, five in found
        ],
        lines=[
            f"{image.source}: {', '.join(f'{guess.name} {guess.probability:.2%}' for guess in five)}"
            for image, five in found
        ],
        tiles=tiles,
    )


def write_table(path: Path, found: list[tuple[InputImage, list[Guess]]]) -> None:
    """Write one line for each image and class."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "rank", "class", "name", "probability"])
    for image, five in found:
        table.writerows([image.source, rank, g.label, g.name, f"{g.probability:.6f}"] for rank, g in enumerate(five, 1))
    write_text(path, text.getvalue())


def find_people(args: argparse.Namespace, folder: Path) -> Predicted:
    """Find the people on each image; write keypoints.json."""
    runs = [args.run, *([args.run_flip] if args.run_flip else [])]
    everyone, _ = decode_runs(args.cfg, args.manifest, runs, args.workers)
    images = Manifest.read(args.manifest).images
    write_keypoints(folder / "keypoints.json", (person for people in everyone for person in people))
    entries, lines = [], []
    tiles: list[Image.Image] = []
    for image, people in zip(images, everyone):
        shown = sorted((each for each in people if each["score"] > MIN_PERSON_SCORE), key=lambda each: -each["score"])
        scores = [each["score"] for each in shown]
        size = {"width": image.width, "height": image.height, "gear": list(image.sides())}
        entries.append({"image": image.source, "image_id": image.image_id, **size, "scores": scores})
        listed = f" ({', '.join(f'{score:.2f}' for score in scores)})" if scores else ""
        lines.append(f"{image.source}: {count_people(len(shown))}{listed}")
        if len(tiles) < POSE_COUNT:
            with open_image(Path(image.source), HINT) as source:
                joints = [np.reshape(each["keypoints"], (JOINTS, 3)) for each in shown]
                tiles.append(draw_poses(source, Path(image.source).name, joints))
    return Predicted(entries, lines, tiles)


def run(args: argparse.Namespace) -> None:
    """Write the directory, then print one line for each image."""
    config = load_config(args.cfg)
    pose = config.MODEL.NAME == POSE
    manifest, record = Manifest.read(args.manifest), RunRecord.read(args.run)
    if manifest.dataset != "images":
        what, hint = "the inputs were not prepared with --images", "for a data set run make eval"
        raise UserError(what, where=args.manifest, found=manifest.dataset, hint=hint)
    if args.run_flip and not pose:
        raise UserError("--run_flip needs a pose model", where=args.cfg)
    rejected = read_record(args.manifest.with_name("rejected.json"), "rejected", HINT)["images"]
    with replacing_folder(args.output) as folder:
        results = find_people(args, folder) if pose else classify(args, config, folder)
        save_sheet(folder / "show.png", results.tiles, POSE_COLUMNS if pose else CLASS_COLUMNS)
        content = {
            "name": args.cfg.stem,
            "model": Path(record.model).name,
            "model_sha256": record.model_sha256,
            "metadata": record.metadata,
            "tool": record.tool,
            **({"flip": args.run_flip is not None} if pose else {}),
            "rejected": rejected,
            "images": results.entries,
        }
        write_record(folder / "predictions.json", "predictions", content)
        names = sorted(path.name for path in folder.iterdir())
    lines = [*results.lines, *(f"{source}: rejected: {reason}" for source, reason in rejected.items())]
    few = f" (show.png: the first {len(results.tiles)})" if len(results.tiles) < len(results.lines) else ""
    print("\n".join(lines))
    print(f"wrote the results for {plural(len(results.lines), 'image')} to {args.output}: {', '.join(names)}{few}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.predict", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    parser.add_argument("--run", type=Path, required=True, help="run record of infer.run")
    parser.add_argument("--run_flip", type=Path, help="pose: run record of the flipped images (default: no flip test)")
    add_labelled_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="directory to write or to replace")
    parser.add_argument("--workers", type=integer(1), default=cores(), help="number of processes (default: all cores)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
