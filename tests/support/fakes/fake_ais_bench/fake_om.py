"""The .om of the fake atc (fake_atc.py), run by onnxruntime, for the fakes of ais_bench and aclruntime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime


class Om:
    """`IMOD`, atc's arguments as a line of JSON, and the ONNX file itself. With `aipp` among the arguments the input is
    uint8 NHWC, and is normalised here."""

    def __init__(self, path: str) -> None:
        head, _, model = Path(path).read_bytes().partition(b"\n")
        if not head.startswith(b"IMOD"):
            raise RuntimeError("load model from file failed, ret 500002")
        given = json.loads(head[4:])
        ((_, shape),) = [entry.rsplit(":", 1) for entry in given["input_shape"].split(";")]
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.shape = [int(size) for size in shape.split(",")]
        self.input = self.session.get_inputs()[0]
        self.dtype = np.dtype({"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[self.input.type])
        self.aipp = {name: np.float32(values) for name, values in given.get("aipp", {}).items()}
        if self.aipp:
            batch, channels, height, width = self.shape
            self.shape, self.dtype = [batch, height, width, channels], np.dtype(np.uint8)
        self.bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        dims = given.get("dynamic_dims", "")
        self.gears = [self.at_gear(gear.split(",")) for gear in dims.split(";")] if dims else []

    def at_gear(self, sizes: list[str]) -> list[int]:
        values = iter(sizes)
        return [int(next(values)) if size == -1 else size for size in self.shape]

    def set_dims(self, text: str) -> None:
        """`name:1,3,512,640`, which must be a gear."""
        name, _, sizes = text.rpartition(":")
        shape = [int(size) for size in sizes.split(",")]
        if not self.gears:
            raise RuntimeError("the dynamic_dims parameter is not specified for model conversion")
        if name != self.input.name or shape not in self.gears:
            print(f"[ERROR] model has {len(self.gears)} gear of dims", flush=True)
            raise RuntimeError("the dynamic_dims parameter is not correct")
        self.shape, self.bytes = shape, int(np.prod(shape)) * self.dtype.itemsize

    def run(self, data: bytes) -> list[np.ndarray]:
        if len(data) != self.bytes:
            raise RuntimeError(f"Check i:0 name:{self.input.name} in size:{len(data)} needsize:{self.bytes} not match")
        batch = np.frombuffer(data, self.dtype).reshape(self.shape)
        if self.aipp:
            normal = (batch - self.aipp["mean"] - self.aipp["min"]) * self.aipp["var_reci"]
            batch = np.ascontiguousarray(normal.transpose(0, 3, 1, 2))
        outputs: list[np.ndarray] = self.session.run(None, {self.input.name: batch})
        return outputs
