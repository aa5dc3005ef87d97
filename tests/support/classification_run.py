"""A finished run on disk: manifest, outputs, run record, and their config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from hrnet.config import config_sha256, load_config
from hrnet.io import tensors
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.runs import RunRecord

HASH = "0123456789abcdef" * 4


def logits_of(images: int, classes: int, seed: int = 0) -> np.ndarray:
    """float32 [images, classes], with two decimals, so that txt is exact."""
    return np.random.default_rng(seed).integers(-999, 999, (images, classes)).astype(np.float32) / 100


def labels_of(images: int, classes: int, seed: int = 1) -> list[int]:
    labels: list[int] = np.random.default_rng(seed).integers(0, classes, images).tolist()
    return labels


def run_record(manifest: Path, outputs: list[TensorInfo], files: dict[str, list[str]], **changes: Any) -> RunRecord:
    """The emulator's record of a finished run on the inputs of a manifest."""
    record = RunRecord(
        model="m.onnx",
        model_sha256=HASH,
        manifest_sha256=sha256_file(manifest),
        metadata={"model": "small", "config_sha256": Manifest.read(manifest).config_sha256},
        tool="emulator 1",
        command=["emulator"],
        outputs=outputs,
        batch=1,
        images=len(files),
        flipped=False,
        kept=0,
        seconds={"total": 0.25},
        images_per_second=12.5,
        device={"throughput": 50.0},
        files=files,
    )
    return dataclasses.replace(record, **changes)


class Run:
    """Files of one run below `root`, and the arguments of `postprocess.classification` that name them."""

    def __init__(self, root: Path, logits: np.ndarray, labels: list[int], classes: int, ending: str = "bin") -> None:
        self.root = root
        self.cfg = root / "small.yaml"
        self.cfg.write_text(f"MODEL: {{NUM_CLASSES: {classes}}}\n")
        self.manifest = make_folder(root / "prep") / "manifest.json"
        self.folder = make_folder(root / "out" / "emulator-bs1")
        self.record = root / "out" / "emulator-bs1_run.json"
        self.output = root / "eval" / "emulator-bs1.json"
        self.predictions = root / "eval" / "emulator-bs1" / "predictions.jsonl"
        self.part = root / "eval" / "emulator-bs1" / "parts" / "1-of-1.json"
        stems = [f"img{i}" for i in range(len(labels))]
        images = [
            InputImage(stem, f"val/{stem}.JPEG", label, 60 + number, 99, [3, 9, 9])
            for number, (stem, label) in enumerate(zip(stems, labels))
        ]
        self.config_sha256 = config_sha256(load_config(self.cfg))
        fixed = ("float32", "NCHW", "bin", classes, 2, images)
        Manifest("imagenet", self.config_sha256, HASH, *fixed).write(self.manifest)
        for stem, row in zip(stems, logits):
            tensors.write_output(self.folder / f"{stem}_0.{ending}", row[None])
        outputs = [TensorInfo("class", str(logits.dtype), [1, logits.shape[1]])]
        self.run = run_record(self.manifest, outputs, {stem: [f"{stem}_0.{ending}"] for stem in stems[::-1]})
        self.run.write(self.record)

    def rewrite(self, **changes: Any) -> None:
        dataclasses.replace(self.run, **changes).write(self.record)

    def arguments(self, *more: str) -> list[str]:
        names = {"--cfg": self.cfg, "--manifest": self.manifest, "--run": self.record, "--output": self.output}
        return [str(word) for pair in names.items() for word in pair] + list(more)

    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.output.read_text())
        return content


def zoo_result(logits: np.ndarray, labels: list[int], shift: int = 0) -> str:
    """result.json by the model zoo's arithmetic, in simple steps: find the five best classes of each image, count a hit
    at its rank, sum the counts. `shift` is 1 if a background class comes before the labels' classes."""
    classes = logits.shape[1]
    hits = np.zeros(min(5, classes))
    for row, label in zip(logits, labels):
        best = np.argsort(-row, kind="stable")
        for place in range(len(hits)):
            if best[place] == label + shift:
                hits[place] += 1
                break
    accuracy = np.cumsum(hits) / len(labels)
    value = [{"key": "Number of images", "value": str(len(labels))}]
    value.append({"key": "Number of classes", "value": str(classes)})
    for i in range(len(hits)):
        value.append({"key": "Top" + str(i + 1) + " accuracy", "value": str(round(accuracy[i] * 100, 2)) + "%"})
    return json.dumps({"title": "Overall statistical evaluation", "value": value})
