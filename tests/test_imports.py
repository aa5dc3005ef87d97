"""Which directory may import which modules, read from the sources with `ast`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

EVERYWHERE = {"numpy", "tqdm", "yacs", "hrnet"}
STDLIB = set(getattr(sys, "stdlib_module_names", ()))  # since Python 3.10
TORCH = {"torch", "onnx", "onnxruntime", "safetensors"}
ALLOWED = {
    "hrnet": {"PIL", "cv2", "yaml"},
    "hrnet/io": set(),
    "hrnet/nets": TORCH,
    "hrnet/pose": {"cv2", "pycocotools"},
    "train": TORCH | {"torch_npu"},
    "train/classification": TORCH | {"PIL", "cv2"},
    "train/pose": TORCH | {"cv2", "pycocotools"},
    "pth2onnx": TORCH,
    "amct": {"onnx"},
    "amct/emulator": {"onnx", "onnxruntime"},
    "atc": {"onnx", "onnxruntime"},
    "atc/emulator": {"onnx", "onnxruntime"},
    "preprocess": {"PIL", "cv2", "simplejpeg"},
    "data": {"PIL", "cv2", "sklearn"},
    "infer": set(),
    "infer/emulator": set(),
    "infer/runtimes": {"onnxruntime", "openvino", "torch", "torch_aie", "mindietorch", "ais_bench"},
    "postprocess": {"PIL", "cv2"},
    # outputs are read and ranked as make eval does
    "compare": {"onnx", "onnxruntime", "pycocotools", "postprocess"},
    # requests are computed by the code of the stages
    "serve": {"starlette", "uvicorn", "prometheus_client", "cv2", "preprocess", "infer", "postprocess"},
    # candidates are what the emulators write, and operators are compared as make compare does
    "keep_float": {"onnx", "onnxruntime", "amct", "atc", "compare"},
    # make.bundle and make.family check inputs and tools as infer.run does; make.doctor uses atc.classifier
    "make": {"infer", "atc", "matplotlib", "ray"},
    # charts are those of make family, names and skeletons those of make show
    "report": {"PIL", "jinja2", "markupsafe", "make", "postprocess"},
}
FAKES = ROOT / "tests/support/fakes"
OF_FAKES = {"numpy", "onnx", "onnxruntime", "torch", "ais_bench", "fake_om", "fake_atc_model", "fake_atc_rules"}
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


def modules_of(path: Path) -> set[str]:
    """Full names of what a file imports with `from`: modules, and names in them."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_share_code_in_their_folder_or_through_support(path: Path) -> None:
    own = path.relative_to(ROOT).parts[1]
    for name in modules_of(path):
        if name.startswith("tests."):
            _, folder, *rest = name.split(".")
            assert folder in ("support", own), name
            assert not [part for part in (folder, *rest[:-1]) if part.startswith("test_") or part == "conftest"], name


@pytest.mark.skipif(not STDLIB, reason="Python 3.9 cannot name its own modules")
@pytest.mark.parametrize("path", sorted(FAKES.rglob("*.py")), ids=lambda path: str(path.relative_to(FAKES)))
def test_fakes_use_nothing_of_this_project(path: Path) -> None:
    if path.parent != FAKES or path.name.startswith("fake_"):  # not the tests of fakes, nor their installation
        assert imported(path) <= STDLIB | OF_FAKES


def test_every_package_of_stages_reports_failed_imports() -> None:
    """It imports `hrnet` first, whose hook reports a missing package in one line."""
    packages = {name.partition("/")[0] for name in ALLOWED} - {"hrnet", "benchmarks", "tests"}
    silent = [name for name in sorted(packages) if "import hrnet" not in (ROOT / name / "__init__.py").read_text()]
    assert not silent
