"""A fake of ais_bench.infer.interface: `InferSession` with the calls that run a model in memory. It computes with the
.om of the fake atc, but only in the thread that created the session, and checks bytes and shapes as aclruntime does."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_om import Om

ERROR = os.environ.get("FAKE_AIS_BENCH", "")


class InferSession:
    def __init__(
        self, device_id: int, model_path: str, acl_json_path: Any = None, debug: bool = False, loop: int = 1
    ) -> None:
        if ERROR == f"device{device_id}":
            raise RuntimeError(f"acl init failed, device {device_id}")
        self.om, self.thread = Om(model_path), threading.get_ident()

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=self.om.input.name, shape=self.om.shape)]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=each.name, shape=each.shape) for each in self.om.session.get_outputs()]

    def infer(
        self, feeds: list[Any], mode: str = "static", custom_sizes: int = 100000, out_array: bool = True
    ) -> list[Any]:
        if threading.get_ident() != self.thread:
            raise RuntimeError("no context of the device in this thread, ret 107002")
        (feed,) = feeds
        if type(feed) is not np.ndarray:
            raise RuntimeError(f"type:{type(feed)} invalid")
        if mode == "dymdims":
            self.om.set_dims(f"{self.om.input.name}:{','.join(map(str, feed.shape))}")
        elif mode != "static" or self.om.gears:
            raise RuntimeError(f"wrong infer_mode:{mode}")
        outputs: list[Any] = self.om.run(np.ascontiguousarray(feed).tobytes())
        return outputs
