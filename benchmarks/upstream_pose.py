"""Call upstream's pose decoder like its tools/valid.py, from a checkout of HigherHRNet.

Source: https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation. It uses lib/config/default.py (with
experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml), lib/core/inference.py, lib/core/group.py,
lib/utils/transforms.py and the table of lib/dataset/transforms/build.py, and needs torch and munkres 1.x.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.cli import UserError
from hrnet.pose.decode import People
from hrnet.pose.joints import NAMES

CONFIG = "experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml"
PARTS = ("x", "y", "heatmap value", "tag", "tag of the flipped image")
PIXELS, VALUES = 1e-3, 1e-5  # allowed differences

Outputs = Sequence[np.ndarray]


def first_difference(ours: People, keypoints: np.ndarray, scores: np.ndarray) -> Optional[str]:
    """The first difference between our people and upstream's keypoints [P, 17, 3 + D] and scores [P], or None. Allowed
    differences: 1e-3 pixels for coordinates, 1e-5 for heatmap values, tags and scores."""
    if ours.keypoints.shape != keypoints.shape:
        return f"{len(ours.keypoints)} people, expected {len(keypoints)}"
    allowed = np.full(keypoints.shape[1:], VALUES)
    allowed[:, :2] = PIXELS
    for person, joint, part in np.argwhere(~(np.abs(ours.keypoints - keypoints) <= allowed)):
        found, expected = ours.keypoints[person, joint, part], keypoints[person, joint, part]
        return f"person {person} {NAMES[joint]} {PARTS[part]}: {found}, expected {expected}"
    for (person,) in np.argwhere(~(np.abs(ours.scores - scores) <= VALUES)):
        return f"person {person} score: {ours.scores[person]}, expected {scores[person]}"
    return None


class UpstreamDecoder:
    """Upstream's decoder. `changes`: changes to its config, such as `{"TEST.REFINE": False}`. Its attribute
    `transforms` is upstream's utils.transforms."""

    def __init__(self, checkout: Path, **changes: object) -> None:
        if not (checkout / "lib/core/group.py").is_file():
            hint = "git clone https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation"
            raise UserError(
                "not a checkout of HigherHRNet", where=checkout, expected="lib/core/group.py in it", hint=hint
            )
        if not _munkres().startswith("1."):
            hint = "pip install 'munkres<2'"
            raise UserError(
                "upstream needs munkres 1, since later versions resolve ties differently",
                expected="1.x",
                found=_munkres(),
                hint=hint,
            )
        with _packages(checkout / "lib"):
            self._config = importlib.import_module("config.default")._C.clone()
            flips = importlib.import_module("dataset.transforms.build")
            sys.modules["dataset.transforms"].FLIP_CONFIG = flips.FLIP_CONFIG  # type: ignore[attr-defined]
            self._inference = importlib.import_module("core.inference")
            self._group = importlib.import_module("core.group")
            self.transforms = importlib.import_module("utils.transforms")
        self._config.merge_from_file(str(checkout / CONFIG))
        self._config.merge_from_list([word for change in changes.items() for word in change])

    def decode(self, outputs: Outputs, outputs_flip: Optional[Outputs] = None) -> tuple[np.ndarray, np.ndarray]:
        """Decode (output1, output2), and those of the flipped input if given: keypoints float32 [P, 17, 3 + D] in input
        pixels, and scores float32 [P]."""
        import torch

        config = self._config.clone()
        config.TEST.FLIP_TEST = outputs_flip is not None
        passes = iter([outputs] if outputs_flip is None else [outputs, outputs_flip])
        image = torch.zeros((1, 3, 2 * outputs[1].shape[2], 2 * outputs[1].shape[3]))
        size = (image.shape[3], image.shape[2])
        with torch.no_grad():
            _, heatmaps, tags = self._inference.get_multi_stage_outputs(
                config,
                lambda _: [torch.from_numpy(array) for array in next(passes)],
                image,
                config.TEST.FLIP_TEST,
                config.TEST.PROJECT2IMAGE,
                size,
            )
            heat, tags = self._inference.aggregate_results(config, 1, None, [], heatmaps, tags)
            heat = heat / float(len(config.TEST.SCALE_FACTOR))
            parser = self._group.HeatmapParser(config)
            grouped, scores = parser.parse(heat, torch.cat(tags, dim=4), config.TEST.ADJUST, config.TEST.REFINE)
        shape = (len(scores), config.DATASET.NUM_JOINTS, 3 + len(tags))
        people = np.asarray(grouped[0], np.float32).reshape(shape)
        return people, np.array(scores, np.float32)


def _munkres() -> str:
    try:
        return version("munkres")
    except PackageNotFoundError:
        return "none"


@contextmanager
def _packages(lib: Path) -> Iterator[None]:
    """Import upstream's packages without their __init__, which imports pycocotools and torchvision."""
    names = ("config", "core", "utils", "dataset", "dataset.transforms", "dataset.transforms.transforms")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}
    for name in before:
        del sys.modules[name]
    for name in names:
        package = types.ModuleType(name)
        package.__path__ = [str(lib / name.replace(".", "/"))]
        sys.modules[name] = package
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, package)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(before)
