"""A small data set, a compiled model, and records of parts, without running a stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hrnet import datasets
from hrnet.code import stages_sha256
from hrnet.config import config_sha256, load_config
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import sha256_file, write_text
from hrnet.io.parts import Part, predictions_path
from hrnet.shards import Shard, select_part
from tests.support.image_sets import listed, write_config, write_images
from tests.support.linear_model import linear_model


def write_inputs(images: int) -> None:
    """Write small.yaml, set/ and m.onnx to the current directory."""
    write_config(Path.cwd())
    names = [f"{i}.png" for i in range(images)]
    write_images(Path("set/val"), names)
    listed(Path("set"), {name: i % 3 for i, name in enumerate(names)})
    linear_model(Path("m.onnx"), 1)


def write_part(path: Path, part: Shard, **changes: Any) -> None:
    config = load_config(Path("small.yaml"))
    found = datasets.find_images(Path("set"), 10)
    labels, listing = select_part(found.labels, part, 0, (), "set")
    write_text(predictions_path(path), f"{part}\n")
    record = Part(
        shard=[part.number, part.count],
        listed=listing.images,
        list_sha256=listing.sha256,
        index_sha256=dataclasses.replace(found, labels=labels).sha256(),
        config_sha256=config_sha256(config),
        weights_sha256="",
        model="m.onnx",
        model_sha256=CompiledModel.read("m.onnx").model_sha256,
        dtype="float32",
        flip=False,
        tool="emulator 1",
        code_sha256=stages_sha256("classification"),
        metadata={},
        batch=1,
        classes=3,
        images=len(labels),
        inferred=len(labels),
        seconds={"infer": 1.0},
        device_images_per_second=None,
        made_from={},
        predictions_sha256=sha256_file(predictions_path(path)),
    )
    dataclasses.replace(record, **changes).write(path)
