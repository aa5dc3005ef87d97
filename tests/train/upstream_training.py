"""Modules of upstream's training, from the checkout that HIGHERHRNET names; without it their tests are skipped.

HIGHERHRNET=<checkout of HRNet/HigherHRNet-Human-Pose-Estimation at aa23881> make test SLOW=1
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


def upstream(name: str) -> ModuleType:
    """`lib/<name>` of upstream as a module. torchvision, which it imports to convert images, is replaced by a stub."""
    checkout = os.environ.get("HIGHERHRNET")
    if not checkout:
        pytest.skip("HIGHERHRNET is not set")
    spec = importlib.util.spec_from_file_location(f"upstream_{Path(name).stem}", Path(checkout, "lib", name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for absent in ("torchvision", "torchvision.transforms"):
            stub = ModuleType(absent)
            stub.functional = None  # type: ignore[attr-defined]
            stub.transforms = stub  # type: ignore[attr-defined]
            patch.setitem(sys.modules, absent, stub)
        spec.loader.exec_module(module)
    return module
