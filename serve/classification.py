"""A classifier for image files: the model's output, and the (up to) five most probable classes with their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from yacs.config import CfgNode

from hrnet.images import Transform
from hrnet.io.compiled import CompiledModel
from postprocess.topn import TOP, best_classes, class_name, label_offset
from preprocess import decode
from preprocess.classification import prepare
from preprocess.folder import decode_image
from serve.batches import Prepared, Result
from serve.models import ImageModel, accepted, check_finite, check_kind, output_tensors
from serve.protocol import BYTES, NAMES, Spec, Tensor, Values


class Classifier(ImageModel):
    def __init__(
        self, name: str, config: CfgNode, compiled: CompiledModel, where: object, names: Sequence[str] = ()
    ) -> None:
        """`where`: the compiled model, for errors. `names`: of the classes, used if the config has none."""
        super().__init__(name)
        (output,) = compiled.outputs
        self.transform, self.dtype = Transform.of(config), compiled.inputs[0].dtype
        self.names = config.INPUT.CLASS_NAMES or names
        self.size = output.bytes_of_one() // np.dtype(output.dtype).itemsize
        self.offset = label_offset(self.size, config.MODEL.NUM_CLASSES, where)
        self.softmax = compiled.metadata.get("output") != "probabilities"
        top = min(TOP, self.size)
        self.outputs = [
            Spec("output", NAMES[output.dtype], [-1, *output.shape[1:]]),
            Spec("classes", "INT64", [-1, top]),
            Spec("probabilities", "FP64", [-1, top]),
            Spec("names", BYTES, [-1, top]),
        ]

    def prepare(self, values: Values) -> Prepared:
        rows = []
        for number, data in enumerate(values, 1):
            check_kind(number, data)
            pixels = accepted(number, decode_image(data, decode.decode))
            rows.append(accepted(number, prepare(pixels, self.transform, self.dtype)))
        return Prepared(rows)

    def rank(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best classes of a batch, int64 [N, K], and their probabilities, float64 [N, K], as make eval computes
        them. `logits`: the model's output, [N, ...]."""
        with np.errstate(all="ignore"):  # `answer` rejects NaN and infinity
            flat = logits.reshape(len(logits), -1).astype(np.float32, copy=False)
            best, probabilities = best_classes(flat, min(TOP, self.size), self.softmax)
        return best - self.offset, probabilities

    def answer(self, context: Any, results: Sequence[Result]) -> list[Tensor]:
        check_finite(results)
        best = [result.best for result in results if result.best]
        classes, probabilities = (np.stack(each) for each in zip(*best))
        names = [class_name(self.names, index).encode() for index in classes.reshape(-1).tolist()]
        return [
            *output_tensors(self.outputs[:1], results),
            Tensor("classes", classes, classes.shape),
            Tensor("probabilities", probabilities, classes.shape),
            Tensor("names", names, classes.shape),
        ]
