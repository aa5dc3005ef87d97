"""The stages of classification as calls in one directory, chained as in the Makefile, on the demo's model."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from shlex import quote

from hrnet.io.files import make_folder, write_text
from hrnet.io.stamp import stamp_path
from tests.hardening.harness import Stage
from tests.support import ROOT

IMAGES = 60
PREP, OUT, EVAL = "build/prep/digits", "build/out/digits", "build/eval/digits"
MODEL, COMPILED = "build/model.onnx", "build/om/bs4.onnx"
MANIFEST, RUN = f"{PREP}/manifest.json", f"{OUT}/bs4_run.json"
CONFIG = "configs/demo_digits.yaml"

DIGITS = Stage("data.digits", "--output digits", ("digits",), "digits/val_label.txt", kept="digits/**/*.JPEG")
WEIGHTS = Stage("data.weights", "--cfg published.yaml --output loaded/m.pth", ("loaded",), "loaded/m.pth")
ONNX = Stage(
    "pth2onnx.classification", f"--cfg {CONFIG} --weights weights/demo_digits.pth --output {MODEL}", ("build",), MODEL
)
OM = Stage("atc.convert", f"--cfg {CONFIG} --model {MODEL} --output {COMPILED} --batch_size 4", ("build/om",), COMPILED)
PREPROCESS = Stage(
    "preprocess.classification",
    f"--cfg {CONFIG} --dataset digits --output {PREP} --limit {IMAGES} --workers 2",
    ("build/prep",),
    MANIFEST,
    kept=f"{PREP}/*.bin",
)
INFER = Stage(
    "infer.run", f"--model {COMPILED} --inputs {PREP} --output {OUT}/bs4", ("build/out",), RUN, kept=f"{OUT}/bs4/*.bin"
)
TOPN = Stage(
    "postprocess.classification",
    f"--cfg {CONFIG} --manifest {MANIFEST} --run {RUN} --output {EVAL}/bs4.json",
    ("build/eval",),
    f"{EVAL}/bs4.json",
)
PYTHON = quote(sys.executable)
PARTS = "build/shards/digits"
_PREPROCESS = f"{PYTHON} -m preprocess.classification --cfg {CONFIG} --dataset digits --output {{work}}/prep"
_INFER = f"{PYTHON} -m infer.run --model {COMPILED} --inputs {{work}}/prep --output {{work}}/out/run"
_EVALUATE = f"{PYTHON} -m postprocess.classification --cfg {CONFIG} --manifest {{work}}/prep/manifest.json"
SHARDS = Stage(
    "make.shards",
    f"--cfg {CONFIG} --dataset digits --limit {IMAGES} --model {COMPILED} --parts {PARTS} --shards 3 --preprocess "
    f"{quote(f'{_PREPROCESS} --limit {IMAGES} --workers 2 --shard {{shard}}')} --infer "
    f"{quote(f'{_INFER} --device {{device}}')} --evaluate "
    f"{quote(f'{_EVALUATE} --run {{work}}/out/run_run.json --part {{part}}')}",
    ("build/shards",),
    f"{PARTS}/data.json",
    kept=f"{PARTS}/[0-9]*.json*",
    files=2,
)
MERGE = Stage(
    "postprocess.merge",
    f"--cfg {CONFIG} --parts {PARTS} --shards 3 --output build/merged/bs4.json",
    ("build/merged",),
    "build/merged/bs4.json",
)
SHOW = Stage(
    "postprocess.show",
    f"--cfg {CONFIG} --predictions {EVAL}/bs4/predictions.jsonl --dataset digits --output build/show/show.png",
    ("build/show",),
    "build/show/show.png",
)
REFERENCE = Stage(
    "train.classification.reference",
    f"--cfg {CONFIG} --weights weights/demo_digits.pth --manifest {MANIFEST} --dataset digits "
    "--output build/reference/digits.json --logits build/reference/logits.npy",
    ("build/reference",),
    "build/reference/digits.json",
)
CALIBRATION = Stage(
    "preprocess.classification",
    f"--cfg {CONFIG} --dataset digits --output build/int8/inputs --calibration 12 --workers 2",
    ("build/int8",),
    "build/int8/inputs/manifest.json",
    kept="build/int8/inputs/*.bin",
)
QUANTIZE = Stage(
    "amct.quantize",
    f"--model {MODEL} --inputs build/int8/inputs --output build/int8/emulator/model_deploy_model.onnx",
    ("build/int8/emulator",),
    "build/int8/emulator/model_deploy_model.onnx",
)
OPERATORS = Stage(
    "compare.operators",
    f"--cfg {CONFIG} --onnx {MODEL} --model {COMPILED} --inputs {PREP} --images 2 "
    "--output build/compare/operators.json",
    ("build/compare",),
    "build/compare/operators.json",
)
COMPARE = Stage(
    "compare.classification",
    f"--cfg {CONFIG} --manifest {MANIFEST} --onnx {MODEL} --model {COMPILED} --run {RUN} --metrics {EVAL}/bs4.json "
    "--torch_images build/reference/logits.npy --output build/compared/stages.json",
    ("build/compared",),
    "build/compared/stages.json",
)
INT8 = (CALIBRATION, QUANTIZE)
CHAIN = (DIGITS, ONNX, OM, PREPROCESS, INFER, TOPN, SHARDS, MERGE, SHOW, REFERENCE, OPERATORS, COMPARE)


def name(stage: Stage) -> str:
    """The name of a test."""
    return stage.module + {CALIBRATION: "-calibration"}.get(stage, "")


def sources(folder: Path) -> Path:
    """A directory with the first inputs of the chain: the demo's config and checkpoint."""
    for name in (CONFIG, "weights/demo_digits.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def publish(folder: Path, url: str, md5: str) -> None:
    """A config with the URL of a checkpoint."""
    write_text(folder / "published.yaml", f"WEIGHTS: {{URL: '{url}', MD5: '{md5}'}}\n")


def finished(stage: Stage, built: Path, root: Path) -> Path:
    """A copy of `built` in which the stage ran undisturbed."""
    folder = inputs_of(stage, built, root / "finished")
    stage.finish(folder)
    return folder


def inputs_of(stage: Stage, built: Path, folder: Path) -> Path:
    """A copy of `built` without the products of the stage, and without their locks and stamps."""
    shutil.copytree(built, folder, copy_function=os.link)
    for product in stage.products:
        for path in (folder / product, folder / f"{product}_lock", stamp_path(folder / product)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
    make_folder(folder)
    return folder
