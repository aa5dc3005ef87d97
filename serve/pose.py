"""A pose model for image files: the people in each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from hrnet import gears
from hrnet.io.coco import JOINTS, CocoImage
from hrnet.io.compiled import CompiledModel
from hrnet.io.manifest import InputImage
from hrnet.pose.decode import read_settings
from postprocess.decode import people_of
from preprocess import decode
from preprocess.folder import decode_image
from preprocess.pose import align, prepare
from serve.batches import Prepared, Result
from serve.models import ImageModel, accepted, check_finite, check_kind
from serve.protocol import Spec, Tensor, Values, reject


class PoseModel(ImageModel):
    slow_answer = True  # decoding takes 40 to 200 ms for an image

    def __init__(self, name: str, cfg: Path, config: CfgNode, compiled: CompiledModel, flip: bool) -> None:
        super().__init__(name)
        self.mean, self.std, self.dtype = config.INPUT.MEAN, config.INPUT.STD, compiled.inputs[0].dtype
        self.short = gears.short_side(config.DATASET.INPUT_SIZE, cfg)
        height, width = (1, 2) if self.dtype == "uint8" else (2, 3)
        self.gears = [(gear.input[height], gear.input[width]) for gear in compiled.gears]
        self.settings, self.flip = read_settings(config), flip
        self.outputs = [
            Spec("people", "INT32", [-1]),  # number of people in each image
            Spec("keypoints", "FP32", [-1, JOINTS, 3]),  # x, y in pixels of the image, score; of all people
            Spec("scores", "FP32", [-1]),
        ]

    def prepare(self, values: Values) -> Prepared:
        rows: list[np.ndarray] = []
        images: list[InputImage] = []
        for number, data in enumerate(values, 1):
            check_kind(number, data)
            pixels = accepted(number, decode_image(data, decode.decode_as_cv2))
            height, width = pixels.shape[:2]
            gear = gears.choose(width, height, self.short, self.gears)
            if gear is None:
                kind = "portrait" if width < height else "landscape"
                reject(f"image {number}: the model has no {kind} gear", found=f"{width} x {height} pixels")
            image = align("image", "image", CocoImage(number, "image", width, height), gear, self.dtype)
            inputs = prepare(pixels, image, self.mean, self.std, self.dtype, self.flip)
            rows += [each[0] for each in accepted(number, inputs)]
            images.append(image)
        return Prepared(rows, images)

    def answer(self, context: list[InputImage], results: Sequence[Result]) -> list[Tensor]:
        check_finite(results)
        passes = [[np.asarray(output, np.float32) for output in result.outputs] for result in results]
        each = 2 if self.flip else 1
        found = [
            people_of(passes[each * i : each * (i + 1)], image, self.settings, {}) for i, image in enumerate(context)
        ]
        counts = np.array([len(scores) for _, scores in found], np.int32)
        keypoints = np.concatenate([keypoints[:, :, :3] for keypoints, _ in found]).astype(np.float32)
        scores = np.concatenate([scores for _, scores in found]).astype(np.float32)
        tensors = zip(self.outputs, (counts, keypoints, scores))
        return [Tensor(spec.name, values, values.shape) for spec, values in tensors]
