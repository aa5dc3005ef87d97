"""The stages of pose as calls in one directory, chained as in the Makefile, on a tiny net and drawn people."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote

from tests.hardening.harness import Stage
from tests.support import tiny

IMAGES = 12
PREP, OUT, EVAL, PARTS = "build/prep/people", "build/out/people", "build/eval/people", "build/shards/people"
MODEL, COMPILED = "build/model.onnx", "build/om/bs1.onnx"
MANIFEST, METRICS = f"{PREP}/manifest.json", f"{EVAL}/bs1.json"
ANNOTATIONS = "people/annotations/person_keypoints_val2017.json"
CONFIG = "tiny_pose.yaml"
PYTHON = quote(sys.executable)

PEOPLE = Stage("data.people", f"--output people --images {IMAGES} --size 64 --seed 4", ("people",), ANNOTATIONS)
GEARS = Stage(
    "data.gears", f"--cfg {CONFIG} --dataset people --output build/gears.yaml", ("build",), "build/gears.yaml"
)
ONNX = Stage("pth2onnx.pose", f"--cfg {CONFIG} --weights tiny_pose.pth --output {MODEL}", ("build",), MODEL)
OM = Stage("atc.convert", f"--cfg {CONFIG} --model {MODEL} --output {COMPILED} --batch_size 1", ("build/om",), COMPILED)
_SET = f"--cfg {CONFIG} --dataset people --output {PREP} --workers 2"
PREPROCESS = Stage("preprocess.pose", _SET, ("build/prep",), MANIFEST, kept=f"{PREP}/*.npy")
PREPROCESS_FLIP = Stage(
    "preprocess.pose",
    f"{_SET} --output_flip {PREP}-flip",
    ("build/prep",),
    MANIFEST,
    kept="build/prep/*/*.npy",
    files=2,
)
_RUN = f"--model {COMPILED} --inputs {PREP} --output {OUT}/bs1"
_FLIP = f"--output_flip {OUT}-flip/bs1"
INFER = Stage("infer.run", _RUN, ("build/out",), f"{OUT}/bs1_run.json", kept=f"{OUT}/bs1/*.npy", files=2)
INFER_FLIP = Stage(
    "infer.run", f"{_RUN} {_FLIP}", ("build/out",), f"{OUT}-flip/bs1_run.json", kept="build/out/*/bs1/*.npy", files=4
)
POSE = Stage(
    "postprocess.pose",
    f"--cfg {CONFIG} --manifest {MANIFEST} --dataset people --output {METRICS} "
    f"--run {OUT}/bs1_run.json --run_flip {OUT}-flip/bs1_run.json --workers 2",
    ("build/eval",),
    METRICS,
)
PART = Stage(
    "postprocess.pose",
    f"--cfg {CONFIG} --manifest {MANIFEST} --dataset people --part build/part/1-of-1.json --dump_dir {OUT}/bs1 "
    f"--dump_dir_flip {OUT}-flip/bs1 --workers 2",
    ("build/part",),
    "build/part/1-of-1.json",
)
_PREPROCESS = f"{PYTHON} -m preprocess.pose --cfg {CONFIG} --dataset people --output {{work}}/prep"
_INFER = f"{PYTHON} -m infer.run --model {COMPILED} --inputs {{work}}/prep --output {{work}}/out/run"
_EVALUATE = f"{PYTHON} -m postprocess.pose --cfg {CONFIG} --dataset people --manifest {{work}}/prep/manifest.json"
_RUNS = "--run {work}/out/run_run.json --run_flip {work}/out-flip/run_run.json"
SHARDS = Stage(
    "make.shards",
    f"--cfg {CONFIG} --dataset people --model {COMPILED} --flip --parts {PARTS} --shards 3 --preprocess "
    f"{quote(f'{_PREPROCESS} --workers 2 --shard {{shard}}')} --infer "
    f"{quote(f'{_INFER} --output_flip {{work}}/out-flip/run --device {{device}}')} --evaluate "
    f"{quote(f'{_EVALUATE} {_RUNS} --workers 2 --part {{part}}')}",
    ("build/shards",),
    f"{PARTS}/data.json",
    kept=f"{PARTS}/[0-9]*.json*",
    files=3,
)
MERGE = Stage(
    "postprocess.merge",
    f"--cfg {CONFIG} --parts {PARTS} --shards 3 --dataset people --output build/merged/bs1.json",
    ("build/merged",),
    "build/merged/bs1.json",
)
SHOW = Stage(
    "postprocess.show",
    f"--cfg {CONFIG} --predictions {EVAL}/bs1/predictions.jsonl --dataset people --output build/show/show.png",
    ("build/show",),
    "build/show/show.png",
)
REFERENCE = Stage(
    "train.pose.reference",
    f"--cfg {CONFIG} --weights tiny_pose.pth --manifest {MANIFEST} --dataset people --flip 1 "
    "--output build/reference/people.json --keypoints build/reference/keypoints.json",
    ("build/reference",),
    "build/reference/people.json",
)
COMPARE = Stage(
    "compare.pose",
    f"--cfg {CONFIG} --dataset people --manifest {MANIFEST} --onnx {MODEL} --model {COMPILED} --run {OUT}/bs1_run.json "
    f"--metrics {METRICS} --torch_images build/reference/keypoints.json --flip --output build/compared/stages.json",
    ("build/compared",),
    "build/compared/stages.json",
)
CALIBRATION = Stage(
    "preprocess.pose",
    f"--cfg {CONFIG} --dataset people --output build/int8/inputs --calibration 8 --workers 2",
    ("build/int8",),
    "build/int8/inputs/manifest.json",
    kept="build/int8/inputs/*.npy",
)
QUANTIZE = Stage(
    "amct.quantize",
    f"--model {MODEL} --inputs build/int8/inputs --output build/int8/emulator/model_deploy_model.onnx",
    ("build/int8/emulator",),
    "build/int8/emulator/model_deploy_model.onnx",
)
INT8 = (CALIBRATION, QUANTIZE)
CHAIN = (
    *(PEOPLE, GEARS, ONNX, OM, PREPROCESS, PREPROCESS_FLIP, INFER, INFER_FLIP, PART, POSE, SHARDS, MERGE, SHOW),
    *(REFERENCE, COMPARE),
)


def name(stage: Stage) -> str:
    """The name of a test."""
    return stage.module + {
        PREPROCESS_FLIP: "-flip",
        INFER_FLIP: "-flip",
        PART: "-part",
        CALIBRATION: "-calibration",
    }.get(stage, "")


def sources(folder: Path) -> Path:
    """A directory with the first inputs of the chain: a config and a checkpoint."""
    tiny.write_pose_weights(folder)
    return folder
