"""The runtimes of the embedded twin, one file each, loaded when asked for."""

from __future__ import annotations

import importlib

from hrnet.cli import UserError
from infer.runtimes.base import Runtime

RUNTIMES = ("onnxruntime",)


def load(name: str, model: str, threads: int) -> Runtime:
    """Load `model` into the runtime called `name`, each request on `threads` cores; a runtime that is not installed is
    a UserError."""
    try:
        module = importlib.import_module(f"infer.runtimes.{name}_runtime")
    except ImportError as fault:
        raise UserError(f"runtime {name} is not installed: {fault}", mend="run make setup") from None
    runtime: Runtime = module.load(model, threads)
    return runtime
