"""Run a small classifier through all stages (the chain), and start servers for it as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import onnx

from amct import quantize
from atc import convert
from hrnet.config import config_sha256, load_config
from infer import run as infer
from postprocess import classification as evaluate
from preprocess import classification as preprocess
from tests.support import ROOT, onnx_models
from tests.support.image_sets import encoded, noise
from tests.support.processes import SECONDS

SIDE, COUNT, BATCHES = 32, 11, (1, 4)
NAMES = [f"a <b>{letter}</b>" for letter in "abcdefghij"]
CONFIG = f"""
MODEL: {{NUM_CLASSES: {onnx_models.CLASSES}, IMAGE_SIZE: [{SIDE}, {SIDE}]}}
INPUT: {{RESIZE: 40, MEAN: [0.4, 0.5, 0.6], STD: [0.2, 0.25, 0.3], CLASS_NAMES: names.txt}}
"""
VERDICT = "eval/judged.json"


def arguments(**flags: object) -> list[str]:
    return [str(part) for name, value in flags.items() for part in (f"--{name}", value)]


def image(number: int) -> bytes:
    """An image file whose size depends on `number`; every fourth one is a PNG, the others are JPEGs."""
    pixels = noise(60 + 7 * number, 90 - 4 * number, number)
    return encoded(pixels, "PNG") if number % 4 == 3 else encoded(pixels, "JPEG", quality=90)


def write_chain(folder: Path, precision: str = "fp32", dtype: str = "float32") -> None:
    """Run the stages in `folder`, the working directory. They write om/bs<N>.onnx, in/, out/ (at batch 4), and two
    metrics records: eval/unjudged.json, and VERDICT, whose reference is eval/unjudged.json."""
    Path("data/val").mkdir(parents=True)
    names = [f"img{number}.{'png' if number % 4 == 3 else 'jpg'}" for number in range(COUNT)]
    for number, name in enumerate(names):
        Path("data/val", name).write_bytes(image(number))
    Path("data/val_label.txt").write_text("".join(f"{name} {number % 3}\n" for number, name in enumerate(names)))
    Path("small.yaml").write_text(CONFIG)
    Path("names.txt").write_text("\n".join(NAMES))
    model = onnx_models.classifier(size=SIDE)
    config = config_sha256(load_config(Path("small.yaml")))
    onnx.helper.set_model_props(model, {"model": "small", "config_sha256": config, "weights_sha256": "ab" * 32})
    onnx.save(model, "m.onnx")
    common = {"cfg": "small.yaml", "input_dtype": dtype}
    quantized = {}
    if precision == "int8":
        calibration = arguments(cfg="small.yaml", dataset="data", output="calibration", calibration=COUNT)
        assert preprocess.main(calibration) == 0
        assert quantize.main(arguments(model="m.onnx", inputs="calibration", output="q_deploy_model.onnx")) == 0
        quantized = {"quantized": "q_deploy_model.onnx"}
    for batch in BATCHES:
        flags = {"model": "m.onnx", "output": f"om/bs{batch}.onnx", "batch_size": batch, "precision": precision}
        flags.update(quantized)
        assert convert.main(arguments(**common, **flags)) == 0
    assert preprocess.main(arguments(**common, dataset="data", output="in")) == 0
    assert infer.main(arguments(model="om/bs4.onnx", inputs="in", output="out/run")) == 0
    flags = {"cfg": "small.yaml", "manifest": "in/manifest.json", "run": "out/run_run.json"}
    assert evaluate.main(arguments(**flags, output="eval/unjudged.json")) == 0
    assert evaluate.main(arguments(**flags, output=VERDICT, reference="eval/unjudged.json")) == 0


class Running(NamedTuple):
    """A server process that is ready."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]  # what it printed

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


def command(*more: str, metrics: str = VERDICT, models: tuple[str, ...] = ("om/bs1.onnx", "om/bs4.onnx")) -> list[str]:
    given = ["--cfg", "small.yaml", "--models", *models, "--metrics", metrics, "--port", "0"]
    return ["-m", "serve.run", *given, *more]


@contextmanager
def serving(folder: Path, words: list[str], python: str = sys.executable) -> Iterator[Running]:
    """Start a server in `folder` and wait until it is ready; end it after the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [python, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready: "):
                break
        timer.cancel()
        found = re.search(r"listening on (http://\S+)", "".join(lines))
        assert found and lines[-1].startswith("ready: "), "".join(lines)
        yield Running(process, found[1], lines)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
