"""Calibration inputs, and arguments for amct.quantize and for the emulator of amct_onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hrnet.io import tensor_names, tensors
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from tests.support.onnx_models import CLASSES

SIDE = 16  # pixels: input size of tests.support.onnx_models.classifier
OUTPUT = "int8/model_deploy_model.onnx"


def inputs(folder: Path, count: int, dtype: str = "float32") -> Path:
    """`count` inputs for the classifier, with a manifest."""
    make_folder(folder)
    random, shape = np.random.default_rng(3), [3, SIDE, SIDE]
    entries = [InputImage(f"img{i}", f"train/{i % CLASSES}/img{i}.png", i % CLASSES, 8, 8, shape) for i in range(count)]
    for entry in entries:
        tensors.write_bin(folder / f"{entry.stem}.bin", random.standard_normal(shape).astype(dtype))
    layout = tensor_names.INPUT_LAYOUTS[dtype]
    Manifest("imagenet", "c" * 64, "d" * 64, dtype, layout, "bin", CLASSES, 0, entries).write(folder / "manifest.json")
    return folder


def arguments(*more: str, backend: str = "onnxruntime") -> list[str]:
    """Arguments for amct.quantize in the current directory."""
    return ["--model", "model.onnx", "--inputs", "inputs", "--output", OUTPUT, "--backend", backend, *more]


def batches(folder: Path, count: int = 2, images: int = 4) -> Path:
    """Whole batches for the emulator."""
    make_folder(folder)
    values = np.random.default_rng(5).standard_normal((count, images, 3, SIDE, SIDE)).astype(np.float32)
    for number, batch in enumerate(values):
        tensors.write_bin(folder / f"batch_{number:05}.bin", batch)
    return folder


def command_line(**changes: str) -> list[str]:
    """Arguments for the emulator in the current directory, without the flags whose value is empty."""
    given = {
        "model": "model.onnx",
        "save_path": "out/m",
        "input_shape": "image:4,3,16,16",
        "data_dir": "batches",
        "data_types": "float32",
        "batch_num": "2",
        **changes,
    }
    return ["calibration", *(word for name, value in given.items() if value for word in (f"--{name}", value))]
