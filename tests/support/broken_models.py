"""Small classifiers that are broken on purpose, their calibration inputs, and arguments of keep_float.search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.tensors import write_bin
from tests.support.onnx_models import CLASSES, model_of

SIDE, IMAGES = 16, 16


def network(middle: list[onnx.NodeProto], **stored: np.ndarray) -> onnx.ModelProto:
    """image -> /first/Conv -> ReLU `r0` -> `middle` -> tensor `m` -> /last/Conv -> ReLU, pooling, /fc/Gemm -> class."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    stored = {"w0": weights(8, 3, 3, 3), "w9": weights(8, 8, 3, 3), "fc": 8 * weights(8, CLASSES), **stored}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], "/first/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "/first/Relu"),
        *middle,
        helper.make_node("Conv", ["m", "w9"], ["c9"], "/last/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c9"], ["r9"], "/last/Relu"),
        helper.make_node("GlobalAveragePool", ["r9"], ["g"], "/pool/Pool"),
        helper.make_node("Flatten", ["g"], ["f"], "/pool/Flatten"),
        helper.make_node("Gemm", ["f", "fc"], ["class"], "/fc/Gemm"),
    ]
    return model_of(nodes, {"image": ["n", 3, SIDE, SIDE]}, {"class": ["n", CLASSES]}, 13, **stored)


def overflowing() -> onnx.ModelProto:
    """/large/Mul computes values up to 1e6, /small/Mul makes them small again."""
    middle = [
        helper.make_node("Mul", ["r0", "large"], ["b"], "/large/Mul"),
        helper.make_node("Mul", ["b", "small"], ["m"], "/small/Mul"),
    ]
    return network(middle, large=np.array(3e5, np.float32), small=np.array(1 / 3e5, np.float32))


def unfixable() -> onnx.ModelProto:
    """/last/Conv reads values up to 1e6."""
    return network([helper.make_node("Mul", ["r0", "large"], ["m"], "/large/Mul")], large=np.array(3e5, np.float32))


def outlier() -> onnx.ModelProto:
    """One channel of /outlier/Conv is 3000 times as large as the others, and /last/Conv makes it small again."""
    random = np.random.default_rng(1)
    factor = np.ones(8, np.float32)
    factor[3] = 3000
    kernel, last = ((random.standard_normal((8, 8, 3, 3)) / 8.5).astype(np.float32) for _ in range(2))
    middle = [
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "/outlier/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["m"], "/outlier/Relu"),
    ]
    return network(middle, w1=kernel * factor[:, None, None, None], w9=last / factor[:, None, None])


def write(folder: Path, model: onnx.ModelProto, images: int = IMAGES) -> None:
    """Write model.onnx, and inputs/ with this number of images, to `folder`."""
    onnx.save(model, folder / "model.onnx")
    make_folder(folder / "inputs")
    values = np.random.default_rng(2).standard_normal((images, 3, SIDE, SIDE)).astype(np.float32)
    for number, each in enumerate(values):
        write_bin(folder / f"inputs/img{number}.bin", each)
    entries = [
        InputImage(f"img{i}", f"train/{i % 3}/img{i}.png", i % 3, 20, 20, [3, SIDE, SIDE]) for i in range(images)
    ]
    manifest = Manifest("imagenet", "c" * 64, "d" * 64, "float32", "NCHW", "bin", CLASSES, 0, entries)
    manifest.write(folder / "inputs/manifest.json")


def arguments(precision: str) -> list[str]:
    """Arguments of keep_float.search for files in the current directory."""
    words = ["--model", "model.onnx", "--inputs", "inputs", "--precision", precision]
    return [*words, "--output", f"keep/{precision}.txt"]
