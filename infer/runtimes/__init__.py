"""The runtimes of the embedded twin, one file each, loaded when asked for."""

from __future__ import annotations

import importlib

from hrnet.cli import UserError, cores
from infer.runtimes.base import Runtime

INSTALL = {"onnxruntime": ".", "openvino": ".[openvino]"}  # for pip
RUNTIMES = tuple(INSTALL)


def load(name: str, model: str, requests: int) -> Runtime:
    """Load `model` into the runtime called `name`, to compute `requests` batches at once, which share the cores; a
    runtime that is not installed is a UserError."""
    try:
        module = importlib.import_module(f"infer.runtimes.{name}_runtime")
    except ImportError as fault:
        mend = f'pip install "{INSTALL[name]}", or make setup'
        raise UserError(f"runtime {name} is not installed: {fault}", mend=mend) from None
    runtime: Runtime = module.load(model, requests, max(1, cores() // requests))
    return runtime
