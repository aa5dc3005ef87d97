"""The runtimes, one module each: those of ais_bench's emulator and, for `make serve`, `ascend`, which calls ais_bench.
A module is imported when it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from hrnet.cli import UserError, cores
from hrnet.hints import install
from infer.runtimes.base import Runtime

INSTALL = {
    "onnxruntime": install("onnxruntime"),
    "openvino": install("openvino", "openvino"),
    "torchscript": install("torch", "torch"),
    "torch_aie": "install Torch-AIE from Huawei, with the torch version that it needs",
}
RUNTIMES = tuple(INSTALL)  # of the emulator
INSTALL["ascend"] = "set AIS_PYTHON to the Python interpreter that has ais_bench"
# Runtimes that accept any device number; the others have only device 0.
WITH_DEVICES = ("torchscript", "torch_aie", "ascend")


def find(name: str) -> ModuleType:
    """The module of the runtime `name`. Raises UserError if the runtime is not installed, or cannot be imported."""
    try:
        return importlib.import_module(f"infer.runtimes.{name}_runtime")
    except ImportError as error:
        raise UserError(f"runtime {name} is not installed: {error}", hint=INSTALL[name]) from None


def load(name: str, model: str, requests: int, device: int = 0) -> Runtime:
    """Load `model` into the runtime `name`, which then computes `requests` batches in parallel on all cores. Raises
    UserError."""
    module = find(name)
    chosen = [device] if name in WITH_DEVICES else []
    runtime: Runtime = module.load(model, requests, max(1, cores() // requests), *chosen)
    return runtime


def check_device(name: str, device: str) -> None:
    """Raise UserError unless `device` is one device number that the runtime `name` supports; onnxruntime and
    openvino support only 0."""
    if device == "0" or (name in WITH_DEVICES and device.isdecimal()):
        return
    hint = "use DEVICE=0, or BACKEND=ascend for several devices"
    if name in WITH_DEVICES:
        what = "the emulator of ais_bench uses one device at a time"
        raise UserError(what, expected="--device with one number", found=device, hint=hint)
    raise UserError("the emulator of ais_bench has only one device", expected="--device 0", found=device, hint=hint)
