"""A linear model as ONNX, .om and TorchScript, whose outputs can be computed by hand, and inputs for it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.stamp import stamp_path

SHAPE = [3, 4, 4]
CLASSES = 5
WEIGHTS = np.random.default_rng(7).standard_normal((48, CLASSES)).astype(np.float32)


def write_record(
    path: Path, given: TensorInfo, outputs: dict[str, list[int]], gears: Sequence[Gear] = (), **metadata: str
) -> Path:
    """Write the record of the compiled model at `path`, with float32 `outputs`. The model file gets permissions that
    the tools accept."""
    path.chmod(0o640)
    tensors = [TensorInfo(name, "float32", shape) for name, shape in outputs.items()]
    record = (sha256_file(path), "0" * 64, ["atc"], "atc.emulator", [given], tensors, list(gears), metadata)
    CompiledModel(*record).write(path)
    return path


def linear_model(path: Path, batch: int, outputs: int = 1, pixels: bool = False) -> Path:
    """`class` = image reshaped to [batch, 48] times WEIGHTS; with two outputs `twice` is the image times 2. With
    `pixels` the input is uint8 [batch, 4, 4, 3]."""
    given = TensorInfo("image", "float32", [batch, *SHAPE])
    head = []
    if pixels:
        given = TensorInfo("pixels", "uint8", [batch, *SHAPE[1:], SHAPE[0]])
        head = [
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["image"], to=TensorProto.FLOAT),
        ]
    nodes = [
        *head,
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["class"]),
    ]
    shapes = {"class": [batch, CLASSES]}
    if outputs == 2:
        nodes.append(helper.make_node("Add", ["image", "image"], ["twice"]))
        shapes["twice"] = [batch, *SHAPE]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
    image = helper.make_tensor_value_info(given.name, dtype, given.shape)
    graph = helper.make_graph(nodes, "linear", [image], results, [numpy_helper.from_array(WEIGHTS, "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return write_record(path, given, shapes, model="linear")


def prep_folder(folder: Path, count: int, suffix: str = "bin", pixels: bool = False) -> np.ndarray:
    """`count` inputs img0 … with their manifest; returns them as float32 [count, 3, 4, 4], or with `pixels` as uint8
    [count, 4, 4, 3]."""
    make_folder(folder)
    dtype, layout, shape = ("uint8", "NHWC", [*SHAPE[1:], SHAPE[0]]) if pixels else ("float32", "NCHW", SHAPE)
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, *shape)) if pixels else random.standard_normal((count, *shape))
    images = images.astype(dtype)
    for i, image in enumerate(images):
        tensors.write_output(folder / f"img{i}.{suffix}", image if suffix == "bin" else image[None])
    entries = [InputImage(f"img{i}", f"val/img{i}.JPEG", i % CLASSES, 8, 8, shape) for i in range(count)]
    Manifest("imagenet", "c" * 64, "d" * 64, dtype, layout, suffix, CLASSES, 0, entries).write(folder / "manifest.json")
    return images


def torchscript_model(path: Path, batch: int, **metadata: str) -> Path:
    """`linear_model` as TorchScript, a convolution over the whole image, with its record."""
    weights = WEIGHTS.T.reshape(CLASSES, *SHAPE).copy()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.from_numpy(weights), requires_grad=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(image, self.weights).flatten(1)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit")
        torch.jit.save(torch.jit.freeze(torch.jit.trace(Net().eval(), torch.ones(1, *SHAPE))), str(path))
    given = TensorInfo("image", "float32", [batch, *SHAPE])
    return write_record(path, given, {"class": [batch, CLASSES]}, model="linear", **metadata)


def expected_logits(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ WEIGHTS


def check_logits(images: np.ndarray, folder: str = "out/run", tolerance: float = 1e-5) -> None:
    """A directory contains the .bin outputs img0 … of `linear_model` for these images, and no other files."""
    assert sorted(os.listdir(folder)) == sorted(f"img{i}_0.bin" for i in range(len(images)))
    found = np.stack([np.fromfile(f"{folder}/img{i}_0.bin", np.float32) for i in range(len(images))])
    np.testing.assert_allclose(found, expected_logits(images), rtol=1e-5, atol=tolerance)


def remove_records(folder: str = "out/run") -> None:
    """Remove the record and the stamp, as if the run was killed before it wrote them."""
    os.unlink(f"{folder}_run.json")
    os.unlink(stamp_path(folder))


def om_model(path: Path, batch: int) -> Path:
    """`linear_model` as the fake atc writes it, with its record."""
    onnx_file = linear_model(path.with_suffix(".onnx"), batch)
    sizes = ",".join(map(str, [batch, *SHAPE]))
    path.write_bytes(b"IMOD" + json.dumps({"input_shape": f"image:{sizes}"}).encode() + b"\n" + onnx_file.read_bytes())
    given = TensorInfo("image", "float32", [batch, *SHAPE])
    return write_record(path, given, {"class": [batch, CLASSES]}, model="linear")
