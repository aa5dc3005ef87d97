"""A fake of aclruntime 0.0.2, the compiled part of ais_bench: with it the Python part of a real ais_bench runs here.

It has the functions that the Python part calls during a run over files: sessions, descriptions of tensors, shapes of
gears, times. The .om is that of the fake atc. Sizes are checked with aclruntime's messages.
"""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
from fake_om import Om


class BaseTensor:
    """The bytes at an address."""

    def __init__(self, address: int, size: int) -> None:
        self.data = ctypes.string_at(address, size)


class Tensor:
    """An array on the device or the host."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.asarray(array)
        self.on_host = False

    @property
    def data(self) -> bytes:
        return self.array.tobytes()

    @property
    def shape(self) -> list[int]:
        return list(self.array.shape)

    def to_device(self, device: int) -> None:
        self.on_host = False

    def to_host(self) -> None:
        self.on_host = True

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray:
        if not self.on_host:
            raise RuntimeError("the tensor is on the device")
        return self.array if dtype is None else self.array.astype(dtype)


def session_options() -> SimpleNamespace:
    return SimpleNamespace(acl_json_path="", log_level=2, loop=1)


class MemorySummary:
    """No copies are timed."""

    def __init__(self) -> None:
        self.H2D_time_list = [0.0]
        self.D2H_time_list = [0.0]

    def reset(self) -> None:
        pass


class InferenceSession:
    def __init__(self, model: str, device: int, options: SimpleNamespace) -> None:
        self.om, self._options, self.times = Om(model), options, []  # type: ignore[var-annotated]
        print(f"[INFO] acl init success\n[INFO] open device {device} success", flush=True)

    @staticmethod
    def finalize() -> None:
        pass

    def options(self) -> SimpleNamespace:
        return self._options

    def get_inputs(self) -> list[SimpleNamespace]:
        shape = self.om.shape
        return [SimpleNamespace(name=self.om.input.name, shape=shape, size=self.om.bytes, realsize=self.om.bytes)]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=each.name, shape=each.shape) for each in self.om.session.get_outputs()]

    def set_context(self) -> None:
        pass

    def set_staticbatch(self) -> None:
        pass

    def set_dynamic_dims(self, dims: str) -> None:
        self.om.set_dims(dims)

    def get_dym_aipp_input_exist(self) -> int:
        return 0

    def reset_sumaryinfo(self) -> None:
        self.times.clear()

    def sumary(self) -> SimpleNamespace:
        return SimpleNamespace(exec_time_list=self.times)

    def free_resource(self) -> None:
        pass

    def run(self, names: list[str], inputs: list[Any]) -> list[Tensor]:
        (given,) = inputs
        for _ in range(self._options.loop):
            begun = time.perf_counter() * 1000
            outputs = self.om.run(given.data)
            self.times.append((begun, time.perf_counter() * 1000))
        return [Tensor(output) for output in outputs]
