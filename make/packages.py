"""The packages that make doctor checks, and which of them a call of make needs; standard library only. make doctor does
not check those that only make family, make report, make serve or make cluster needs: these targets report a missing
package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from make.call import TORCH_BACKENDS, Options


class Package(NamedTuple):
    """One of pyproject.toml's packages."""

    module: str
    needed_by: str
    extra: str = ""  # of pyproject.toml


CORE = "every stage"
PACKAGES = {
    "numpy": Package("numpy", CORE),
    "onnx": Package("onnx", CORE),
    "onnxruntime": Package("onnxruntime", CORE),
    "Pillow": Package("PIL", CORE),
    "PyYAML": Package("yaml", CORE),
    "tqdm": Package("tqdm", CORE),
    "yacs": Package("yacs", CORE),
    "opencv-python-headless": Package("cv2", "make preprocess, and pose models"),
    "simplejpeg": Package("simplejpeg", "make preprocess"),
    "pycocotools": Package("pycocotools", "make eval for pose models"),
    "torch": Package("torch", "make onnx, REFERENCE=torch, BACKEND=torchscript", "torch"),
    "safetensors": Package("safetensors", "a .safetensors checkpoint", "torch"),
    "openvino": Package("openvino", "BACKEND=openvino", "openvino"),
    "scikit-learn": Package("sklearn", "make demo", "demo"),
    "pytest": Package("pytest", "make test", "dev"),
    "pytest-xdist": Package("xdist", "make test", "dev"),
    "hypothesis": Package("hypothesis", "make test", "dev"),
    "ruff": Package("ruff", "make check", "dev"),
    "codespell": Package("codespell_lib", "make check", "dev"),
    "mypy": Package("mypy", "make check", "dev"),
}


def exports(call: Options) -> bool:
    """Whether torch and the checkpoint are needed: to export the model, or to compute the reference."""
    if call.onnx:
        return False
    source = Path(call["TS" if call["BACKEND"] in TORCH_BACKENDS else "ONNX"])
    return call["REFERENCE"] == "torch" or not (call["OM"] or source.is_file())


def needed_packages(call: Options) -> set[str]:
    """The packages that this call needs."""
    needed = {name for name, package in PACKAGES.items() if package.needed_by == CORE}
    needed |= {"torch"} if exports(call) or call["BACKEND"] in TORCH_BACKENDS else set()
    needed |= {"safetensors"} if exports(call) and call["WEIGHTS"].endswith(".safetensors") else set()
    needed |= {"openvino"} if call["BACKEND"] == "openvino" else set()
    needed |= set() if call["PREP"] else {"simplejpeg", "opencv-python-headless"}
    needed |= {"opencv-python-headless", "pycocotools"} if call.pose else set()
    read = call.onnx and Path(call["ONNX"]).is_file()  # to complete its config
    if call["OM"] and not (read or call["REFERENCE"] == "onnx"):  # already compiled
        other = call["OM"].endswith(".om") or call["BACKEND"] == "openvino"
        needed -= {"onnx"} | ({"onnxruntime"} if other else set())
    return needed
