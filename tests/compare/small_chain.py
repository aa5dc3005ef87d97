"""Run a small classifier through the stages; build the arguments of scripts."""

from __future__ import annotations

from pathlib import Path

from atc import convert
from hrnet.config import config_sha256, load_config
from hrnet.io.files import make_folder
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.tensors import write_output
from infer import run as infer
from postprocess import classification as evaluate
from tests.support import onnx_models

IMAGES, SIDE = 11, 32
CONFIG = f"""
MODEL: {{NUM_CLASSES: {onnx_models.CLASSES}, IMAGE_SIZE: [{SIDE}, {SIDE}]}}
INPUT: {{RESIZE: 40, MEAN: [0.4, 0.5, 0.6], STD: [0.2, 0.25, 0.3]}}
"""


def arguments(**flags: object) -> list[str]:
    return [str(part) for name, value in flags.items() for part in (f"--{name}", value)]


def write_inputs(folder: Path, dtype: str) -> None:
    """Write IMAGES inputs, img0 and so on, with their manifest."""
    make_folder(folder)
    pixels = dtype == "uint8"
    values = onnx_models.pixels(IMAGES, SIDE) if pixels else onnx_models.images(IMAGES, SIDE)
    for i, each in enumerate(values):
        write_output(folder / f"img{i}.bin", each)
    shape = [SIDE, SIDE, 3] if pixels else [3, SIDE, SIDE]
    entries = [InputImage(f"img{i}", f"val/img{i}.JPEG", i % 3, 20, 20, shape) for i in range(IMAGES)]
    config = config_sha256(load_config(Path("small.yaml")))
    layout = "NHWC" if pixels else "NCHW"
    manifest = Manifest("imagenet", config, "d" * 64, dtype, layout, "bin", onnx_models.CLASSES, 0, entries)
    manifest.write(folder / "manifest.json")


def run_chain(dtype: str, precision: str) -> None:
    """Compile m.onnx to om/<dtype>-<precision>.onnx, infer, evaluate."""
    name = f"{dtype}-{precision}"
    if not Path(f"in-{dtype}").exists():
        write_inputs(Path(f"in-{dtype}"), dtype)
    model, manifest = f"om/{name}.onnx", f"in-{dtype}/manifest.json"
    given = {"cfg": "small.yaml", "model": "m.onnx", "output": model, "batch_size": 4}
    assert convert.main(arguments(**given, input_dtype=dtype, precision=precision)) == 0
    assert infer.main(arguments(model=model, inputs=f"in-{dtype}", output=f"out/{name}")) == 0
    flags = {"cfg": "small.yaml", "manifest": manifest, "run": f"out/{name}_run.json", "output": f"eval/{name}.json"}
    assert evaluate.main(arguments(**flags)) == 0
