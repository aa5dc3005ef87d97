"""The runtimes of the embedded twin, one file each, loaded when asked for."""

from __future__ import annotations

import importlib

from hrnet.cli import UserError, cores
from infer.runtimes.base import Runtime

SETUP = 'pip install "{}", or make setup'
INSTALL = {
    "onnxruntime": SETUP.format("."),
    "openvino": SETUP.format(".[openvino]"),
    "torchscript": SETUP.format(".[torch]"),
    "torch_aie": "install Torch-AIE, which comes from Huawei and no package index, beside its own torch",
}
RUNTIMES = tuple(INSTALL)
WITH_DEVICES = ("torchscript", "torch_aie")  # runtimes that choose among devices; to others this machine is device 0


def load(name: str, model: str, requests: int, device: int = 0) -> Runtime:
    """Load `model` into the runtime called `name`, to compute `requests` batches at once, which share the cores; a
    runtime that is not installed is a UserError."""
    try:
        module = importlib.import_module(f"infer.runtimes.{name}_runtime")
    except ImportError as error:
        raise UserError(f"runtime {name} is not installed: {error}", hint=INSTALL[name]) from None
    chosen = [device] if name in WITH_DEVICES else []
    runtime: Runtime = module.load(model, requests, max(1, cores() // requests), *chosen)
    return runtime
