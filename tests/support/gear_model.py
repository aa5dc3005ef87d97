"""A small ONNX model with gears, whose outputs can be computed by hand, and inputs for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from hrnet.io import tensors
from hrnet.io.compiled import Gear, TensorInfo
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from tests.support.linear_model import write_record

COUNT = 8  # inputs with gears
GEARS = [[1, 3, 4, 4], [1, 3, 4, 8], [1, 3, 6, 4]]


def gear_model(path: Path) -> Path:
    """`means`: each channel's mean; `twice`: the image times 2; at GEARS."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Add", ["image", "image"], ["twice"]),
    ]
    free = [1, 3, "h", "w"]
    values = {"image": free, "means": [1, 3, 1, 1], "twice": free}
    image, *results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "gears", [image], results), opset_imports=[helper.make_opsetid("", 11)], ir_version=6
    )
    dims = ";".join(f"{height},{width}" for _, _, height, width in GEARS)
    helper.set_model_props(model, {"atc.dynamic_dims": dims})
    if path.suffix == ".om":
        arguments = {"input_shape": "image:1,3,-1,-1", "dynamic_dims": dims}
        path.write_bytes(b"IMOD" + json.dumps(arguments).encode() + b"\n" + model.SerializeToString())
    else:
        onnx.save(model, path)
    gears = [Gear(gear, [[1, 3, 1, 1], gear]) for gear in GEARS]
    outputs = {"means": [1, 3, 1, 1], "twice": [1, 3, -1, -1]}
    return write_record(path, TensorInfo("image", "float32", [1, 3, -1, -1]), outputs, gears, model="gears")


def gear_folder(folder: Path, count: int) -> list[np.ndarray]:
    """`count` npy inputs img0 …, with the gears in turn, and their manifest."""
    make_folder(folder)
    random = np.random.default_rng(count)
    images = [random.standard_normal(GEARS[i % len(GEARS)]).astype(np.float32) for i in range(count)]
    for i, image in enumerate(images):
        tensors.write_output(folder / f"img{i}.npy", image)
    shapes = [list(image.shape[1:]) for image in images]
    area = ([4.0, 4.0], [0.04, 0.04])
    entries = [InputImage(f"img{i}", f"val/img{i}.jpg", None, 8, 8, shape, i, *area) for i, shape in enumerate(shapes)]
    Manifest("coco", "c" * 64, "d" * 64, "float32", "NCHW", "npy", 1, 0, entries).write(folder / "manifest.json")
    return images


def flip_folder(source: Path, target: Path) -> None:
    """The inputs of `gear_folder` flipped, and their manifest."""
    make_folder(target)
    for file in source.glob("*.npy"):
        np.save(target / file.name, np.ascontiguousarray(np.load(file)[..., ::-1]))
    Manifest.read(source / "manifest.json").flip().write(target / "manifest.json")


def check_gear_outputs(images: list[np.ndarray], folder: str) -> None:
    """A directory contains the .npy outputs of `gear_model` for these images, and no other files."""
    assert sorted(os.listdir(folder)) == sorted(f"img{i}_{k}.npy" for i in range(len(images)) for k in range(2))
    for i, image in enumerate(images):
        means, twice = (np.load(f"{folder}/img{i}_{k}.npy") for k in range(2))
        np.testing.assert_array_equal(twice, 2 * image)
        np.testing.assert_allclose(means, image.mean(axis=(2, 3), keepdims=True), atol=1e-6)
