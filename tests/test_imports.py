"""Which folder may import what, read from the sources with `ast`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = {"numpy", "tqdm", "yacs", "hrnet"}
STDLIB = set(getattr(sys, "stdlib_module_names", ()))  # since Python 3.10
TORCH = {"torch", "onnx", "onnxruntime", "safetensors"}
ALLOWED = {
    "hrnet": {"PIL", "cv2", "yaml"},
    "hrnet/io": set(),
    "hrnet/nets": TORCH,
    "hrnet/pose": {"cv2", "pycocotools"},
    "train": TORCH | {"torch_npu"},
    "train/classification": TORCH | {"PIL"},
    "train/pose": TORCH | {"cv2", "pycocotools"},
    "pth2onnx": TORCH,
    "atc": {"onnx", "onnxruntime"},
    "atc/emulator": {"onnx", "onnxruntime"},
    "preprocess": {"PIL", "cv2", "simplejpeg"},
    "data": {"PIL", "cv2", "sklearn"},
    "infer": set(),
    "infer/emulator": set(),
    "infer/runtimes": {"onnxruntime", "openvino", "torch", "torch_aie", "mindietorch"},
    "postprocess": {"PIL", "cv2"},
    "make": {"infer", "atc"},  # make.bundle checks inputs as make infer does; make.doctor reads an ONNX file as atc
}
SCRIPTS = [path for folder in ALLOWED for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, lazily too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.skipif(not STDLIB, reason="Python 3.9 cannot name its own modules")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_table(path: Path) -> None:
    folder = str(path.parent.relative_to(ROOT))
    own = {folder.split("/")[0]}
    outside = imported(path) - STDLIB - EVERYWHERE - ALLOWED[folder] - own
    assert not outside, f"{path.relative_to(ROOT)} imports {sorted(outside)}"


def test_the_core_needs_no_torch() -> None:
    for path in SCRIPTS:
        room = str(path.parent.relative_to(ROOT))
        runtime_of_torch = room == "infer/runtimes" and path.name.startswith("torch")
        if not room.startswith(("hrnet/nets", "train", "pth2onnx")) and not runtime_of_torch:
            text = path.read_text(encoding="utf-8")
            assert "hrnet.nets" not in text and "import torch" not in text, path
