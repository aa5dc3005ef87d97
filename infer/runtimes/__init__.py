"""The runtimes of the emulator of ais_bench, one file each, imported when needed."""

from __future__ import annotations

import importlib

from hrnet.cli import UserError, cores
from infer.runtimes.base import Runtime

SETUP = 'pip install "{}", or make setup'
INSTALL = {
    "onnxruntime": SETUP.format("."),
    "openvino": SETUP.format(".[openvino]"),
    "torchscript": SETUP.format(".[torch]"),
    "torch_aie": "install Torch-AIE from Huawei, with the torch version that it needs",
}
RUNTIMES = tuple(INSTALL)
WITH_DEVICES = ("torchscript", "torch_aie")  # runtimes that can choose a device; the others only have device 0


def load(name: str, model: str, requests: int, device: int = 0) -> Runtime:
    """Load `model` into the runtime called `name`, to compute `requests` batches at once, which share the cores. Raises
    UserError if the runtime is not installed."""
    try:
        module = importlib.import_module(f"infer.runtimes.{name}_runtime")
    except ImportError as error:
        raise UserError(f"runtime {name} is not installed: {error}", hint=INSTALL[name]) from None
    chosen = [device] if name in WITH_DEVICES else []
    runtime: Runtime = module.load(model, requests, max(1, cores() // requests), *chosen)
    return runtime


def check_device(name: str, device: str) -> None:
    """Raise UserError unless the runtime called `name` can have this device: a number, 0 if it cannot choose."""
    if device != "0" and not (name in WITH_DEVICES and device.isdecimal()):
        hint = "DEVICE=0, or BACKEND=ascend for several"
        raise UserError("the emulator of ais_bench has one device", expected="--device 0", found=device, hint=hint)
