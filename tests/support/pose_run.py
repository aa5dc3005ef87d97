"""Finished pose runs on disk, of the images and of the flipped images: a COCO set of people, its manifest, the outputs
of the oracle (tests/support/oracle.py), run records, and their config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from hrnet.config import config_sha256, load_config
from hrnet.images import alignment
from hrnet.io import tensor_names
from hrnet.io.coco import annotation_path, write_keypoints
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.parts import Part, keypoints_path, predictions_path
from hrnet.io.predictions import PosePrediction, write_predictions
from hrnet.io.runs import RunRecord
from tests.support import oracle
from tests.support.classification_run import run_record
from tests.support.coco_scenes import SIDE

SPLIT = "val2017"
MODEL, OTHER = "ab" * 32, "cd" * 32  # hashes
GEARS = [[128, 128], [128, 192]]
CONFIG = f"""
MODEL: {{NAME: pose_higher_hrnet}}
DATASET: {{INPUT_SIZE: 128}}
INPUT: {{GEARS: {GEARS}}}
TEST: {{NMS_KERNEL: 5, NMS_PADDING: 2, PROJECT2IMAGE: true}}
"""


def write_config(folder: Path, more: str = "") -> Path:
    path = folder / "pose.yaml"
    path.write_text(CONFIG + more)
    return path


def manifest_of(cfg: Path, dataset: dict[str, Any], gears: list[list[int]] = GEARS) -> Manifest:
    """The images of an annotation file's content, with alternating gears."""
    images = []
    for number, entry in enumerate(dataset["images"]):
        height, width = gears[number % len(gears)]
        where = alignment(entry["width"], entry["height"], (width, height))
        shape, source = tensor_names.input_shape("float32", width, height), f"images/{SPLIT}/{entry['file_name']}"
        stem = Path(entry["file_name"]).stem
        images.append(InputImage(stem, source, None, entry["width"], entry["height"], shape, entry["id"], *where))
    return Manifest("coco", config_sha256(load_config(cfg)), MODEL, "float32", "NCHW", "npy", 1, 0, images)


def write_runs(manifest: Path, annotations: Path, plain: Path, flipped: Path) -> None:
    """The oracle's outputs for a manifest in two folders, each with its record, as the emulator writes them."""
    images = Manifest.read(manifest)
    outputs = [TensorInfo(name, "float32", [1, -1, -1, -1]) for name in ("output1", "output2")]
    for folder, each in ((plain, images), (flipped, images.flip())):
        files = oracle.write_outputs(each, annotations, make_folder(folder))
        record = run_record(manifest, outputs, files, flipped=each.flipped, model_sha256=MODEL)
        record.write(folder.with_name(f"{folder.name}_run.json"))


class PoseRun:
    """Files below `root`, which is also the data set: `pose.yaml`, `prep`, `annotations`, `out` and `out-flip`."""

    def __init__(self, root: Path, dataset: dict[str, Any], config: str = "") -> None:
        self.root = root
        self.cfg = write_config(root, config)
        self.annotations = annotation_path(root, SPLIT)
        make_folder(self.annotations.parent)
        self.annotations.write_text(json.dumps(dataset))
        self.manifest = make_folder(root / "prep") / "manifest.json"
        manifest_of(self.cfg, dataset).write(self.manifest)
        self.folder, self.flipped = root / "out/run", root / "out-flip/run"
        self.keypoints, self.metrics = root / "eval/run/keypoints.json", root / "eval/run.json"
        self.part, self.predictions = root / "eval/run/parts/1-of-1.json", root / "eval/run/predictions.jsonl"

    def infer(self) -> PoseRun:
        for folder in (self.folder, self.flipped):
            make_folder(folder.parent)
        write_runs(self.manifest, self.annotations, self.folder, self.flipped)
        return self

    def edit_config(self, old: str, new: str) -> None:
        self.cfg.write_text(self.cfg.read_text().replace(old, new))

    def rewrite(self, folder: Path, **changes: Any) -> None:
        path = folder.with_name(f"{folder.name}_run.json")
        dataclasses.replace(RunRecord.read(path), **changes).write(path)

    def find(self, people: list[dict[str, Any]], **changes: Any) -> PoseRun:
        """Write these people as the only part, in the form of postprocess.pose."""
        make_folder(self.part.parent)
        write_keypoints(keypoints_path(self.part), people)
        images = Manifest.read(self.manifest).images
        scores = {
            image.image_id: [each["score"] for each in people if each["image_id"] == image.image_id] for image in images
        }
        lines = [
            PosePrediction(i.source, i.image_id or 0, list(i.sides()), len(s), max(s, default=None))
            for i, s in zip(images, scores.values())
        ]
        write_predictions(predictions_path(self.part), lines)
        record = Part(
            shard=[1, 1],
            listed=len(images),
            list_sha256="",
            index_sha256=MODEL,
            config_sha256=Manifest.read(self.manifest).config_sha256,
            weights_sha256="",
            model="m.onnx",
            model_sha256=MODEL,
            dtype="float32",
            flip=True,
            tool="emulator 1",
            code_sha256="",
            metadata={"model": "pose"},
            batch=1,
            classes=1,
            images=len(images),
            inferred=len(images),
            seconds={"infer": 2.0, "read": 0.25, "group": 0.5},
            device_images_per_second=None,
            made_from={"manifest_sha256": sha256_file(self.manifest)},
            predictions_sha256=sha256_file(predictions_path(self.part)),
            keypoints_sha256=sha256_file(keypoints_path(self.part)),
        )
        dataclasses.replace(record, **changes).write(self.part)
        return self

    def decode_arguments(self, *more: str, flip: bool = True) -> list[str]:
        """Arguments of postprocess.pose that only decode, with the model zoo's names of the run's directories."""
        named = {"--cfg": self.cfg, "--manifest": self.manifest, "--dataset": self.root, "--dump_dir": self.folder}
        named["--part"] = self.part
        if flip:
            named["--dump_dir_flip"] = self.flipped
        return [*(str(word) for pair in named.items() for word in pair), "--workers", "1", *more]

    def arguments(self, *more: str) -> list[str]:
        """Arguments of postprocess.pose, without those for keypoints or runs."""
        named = {"--cfg": self.cfg, "--manifest": self.manifest, "--dataset": self.root, "--output": self.metrics}
        return [*(str(word) for pair in named.items() for word in pair), "--workers", "1", *more]

    def merge_arguments(self, *more: str) -> list[str]:
        """Arguments of postprocess.merge."""
        named = {"--cfg": self.cfg, "--parts": self.part.parent, "--dataset": self.root, "--output": self.metrics}
        return [*(str(word) for pair in named.items() for word in pair), "--shards", "1", *more]

    def run_arguments(self, *more: str) -> list[str]:
        return self.arguments("--run", f"{self.folder}_run.json", "--run_flip", f"{self.flipped}_run.json", *more)


def spread(images: int = 3, people: int = 2) -> dict[str, Any]:
    """A data set of people whose joints are far apart, so that decoding finds them all."""
    annotations = []
    for image in range(images):
        for number in range(people if image else 1):
            left = 20 + number * SIDE / 2
            joints = [
                value for joint in range(17) for value in (left + 45 * (joint % 4), 30 + 80 * (joint // 4) + image, 2)
            ]
            entry = {"id": len(annotations) + 1, "image_id": 10 * (image + 1), "category_id": 1, "iscrowd": 0}
            size = {"area": 140.0 * 320, "bbox": [left, 30.0, 140.0, 320.0], "num_keypoints": 17}
            annotations.append({**entry, **size, "keypoints": joints})
    ids = [10 * (i + 1) for i in range(images)]
    return {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": SIDE, "height": SIDE} for i in ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }
