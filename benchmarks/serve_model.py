"""A classifier for the other servers in benchmarks.serve and for its loop without HTTP: this project's pixel
functions, ranking and runtimes, one runtime for each batch size. The servers run it in their own environments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrnet.config import config_path, load_config
from hrnet.images import Transform
from infer import runtimes
from postprocess.topn import best_classes
from preprocess import decode

CFG, MODELS = "BENCHMARK_CFG", "BENCHMARK_MODELS"  # environment variables: the config, and paths separated by `:`


class Model:
    """Classifies JPEGs: the five best classes of each. `parallel`: number of batches computed at the same time."""

    def __init__(self, cfg: str, models: Sequence[Path], parallel: int) -> None:
        cv2.setNumThreads(1)
        config = load_config(config_path(cfg))
        self.transform = Transform.of(config)
        loaded = [runtimes.load("onnxruntime", str(path), parallel) for path in models]
        self.by_size = {runtime.inputs[0].shape[0]: runtime for runtime in loaded}
        self.sizes, self.dtype = sorted(self.by_size), loaded[0].inputs[0].dtype

    @classmethod
    def from_environment(cls, parallel: int) -> Model:
        return cls(os.environ[CFG], [Path(path) for path in os.environ[MODELS].split(":")], parallel)

    def __call__(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classify images, at most as many as the largest batch; they are padded up to the next batch size."""
        rows = [self.transform.to_input(decode.decode(image), self.dtype) for image in images]
        size = next(size for size in self.sizes if size >= len(rows))
        (logits,) = self.by_size[size].compute(np.stack(rows + rows[:1] * (size - len(rows))))
        classes, probabilities = best_classes(logits[: len(rows)].reshape(len(rows), -1), 5)
        return [{"classes": c, "probabilities": p} for c, p in zip(classes.tolist(), probabilities.tolist())]
