"""Evaluated runs in the layout of build/<MODEL>/, and calls of report.write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrnet.io.files import make_folder
from postprocess import classification, pose
from report import write
from tests.support.classification_run import Run, labels_of, logits_of
from tests.support.html_pages import Page
from tests.support.pose_run import PoseRun, spread

CLASSES, IMAGES = 6, 40
NAMES = ["cat", "<script>alert(1)</script>", "$x^2$", "a & b", '"quoted"', "\u732b"]


class Built:
    """An evaluated classifier; `root` is also its data set. Class names contain HTML and TeX."""

    def __init__(self, root: Path, seed: int = 0, images: int = IMAGES) -> None:
        self.root, self.build = root, root / "build" / "small"
        self.run = Run(make_folder(self.build), logits_of(images, CLASSES, seed), labels_of(images, CLASSES), CLASSES)
        self.cfg = self.run.cfg
        names = json.dumps(NAMES)
        self.cfg.write_text(f"MODEL: {{NUM_CLASSES: {CLASSES}}}\nINPUT: {{CLASS_NAMES: {names}}}\n")
        self.metrics = self.build / "eval/set/emulator-bs1.json"
        make_folder(self.metrics.parent)
        assert classification.main([*self.run.arguments(), "--output", str(self.metrics), "--gate", "5"]) == 0
        self.page = self.build / "report.html"

    def add_images(self) -> None:
        make_folder(self.root / "val")
        for number in range(IMAGES):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(self.root / f"val/img{number}.JPEG")

    def arguments(self, *more: str) -> list[str]:
        named = {
            "--cfg": self.cfg,
            "--build": self.build,
            "--metrics": self.metrics,
            "--inputs": self.run.manifest.parent,
            "--run": self.run.record,
            "--output": self.page,
            "--dataset": self.root,
        }
        return [*(str(word) for pair in named.items() for word in pair), *more]

    def write(self, *more: str) -> Page:
        assert write.main(self.arguments(*more)) == 0
        return Page(self.page)

    def change(self, **values: Any) -> None:
        """Replace values of the metrics record."""
        self.metrics.write_text(json.dumps({**json.loads(self.metrics.read_text()), **values}))

    @property
    def predictions(self) -> list[dict[str, Any]]:
        path = self.metrics.with_suffix("") / "predictions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


class BuiltPose:
    """An evaluated pose model; one of its people is not found."""

    def __init__(self, root: Path) -> None:
        self.run = PoseRun(make_folder(root / "build/pose"), spread(4)).infer()
        self.build, self.page = self.run.root, self.run.root / "report.html"
        self.metrics = self.build / "eval/set/emulator-bs1.json"
        make_folder(self.metrics.parent)
        assert pose.main([*self.run.run_arguments(), "--output", str(self.metrics)]) == 0
        content = json.loads(self.run.annotations.read_text())
        make_folder(self.build / "images/val2017")
        for image in content["images"]:
            pixels = np.full((image["height"], image["width"], 3), 90, np.uint8)
            Image.fromarray(pixels).save(self.build / "images/val2017" / image["file_name"])

    def write(self, *more: str) -> Page:
        named = {"--cfg": self.run.cfg, "--build": self.build, "--metrics": self.metrics, "--output": self.page}
        named |= {"--inputs": self.run.manifest.parent, "--run": Path(f"{self.run.folder}_run.json")}
        named["--dataset"] = self.build
        assert write.main([*(str(word) for pair in named.items() for word in pair), *more]) == 0
        return Page(self.page)
