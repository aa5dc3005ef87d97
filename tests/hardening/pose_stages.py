"""The stages of pose as calls in one directory, chained as in the Makefile, on a tiny net and drawn people."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote

from tests import tiny
from tests.hardening.harness import Stage

IMAGES = 12
PREP, OUT, EVAL, PARTS = "build/prep/people", "build/out/people", "build/eval/people", "build/parts/people"
MODEL, COMPILED = "build/model.onnx", "build/om/bs1.onnx"
MANIFEST, KEYPOINTS, METRICS = f"{PREP}/manifest.json", f"{EVAL}/keypoints.json", f"{EVAL}/bs1.json"
ANNOTATIONS = "people/annotations/person_keypoints_val2017.json"
CONFIG = "tiny_pose.yaml"
_DECODER = f"--cfg {CONFIG} --workers 2"

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
CHUNKS = Stage(
    "infer.chunks",
    f"{_RUN} {_FLIP} --chunk 3 --parts {PARTS} -- {quote(sys.executable)} -m postprocess.decode {_DECODER}",
    ("build/out", "build/parts"),
    f"{PARTS}/3.decode.json",
    kept=f"{PARTS}/[0-9]*.json",
    files=2,
)
DECODE = Stage(
    "postprocess.decode",
    f"{_DECODER} --manifest {MANIFEST} --dump_dir {OUT}/bs1 --dump_dir_flip {OUT}-flip/bs1 --output {KEYPOINTS}",
    ("build/eval",),
    f"{EVAL}/keypoints.decode.json",
)
JOIN = Stage(
    "postprocess.join",
    f"--manifest {MANIFEST} --parts {PARTS} --output {KEYPOINTS}",
    ("build/eval",),
    f"{EVAL}/keypoints.decode.json",
)
COCO = Stage(
    "postprocess.pose",
    f"--cfg {CONFIG} --manifest {MANIFEST} --dataset people --keypoints {KEYPOINTS} --output {METRICS}",
    (METRICS,),
    METRICS,
)
POSE = Stage(
    "postprocess.pose",
    f"--cfg {CONFIG} --manifest {MANIFEST} --dataset people --output {METRICS} "
    f"--run {OUT}/bs1_run.json --run_flip {OUT}-flip/bs1_run.json --workers 2",
    (f"{EVAL}/bs1", METRICS),
    METRICS,
)
SHOW = Stage(
    "postprocess.show",
    f"--manifest {MANIFEST} --keypoints {KEYPOINTS} --dataset people --output {EVAL}/show.png",
    (f"{EVAL}/show.png",),
    f"{EVAL}/show.png",
)
EVALUATE = Stage(
    "train.pose.reference",
    f"--cfg {CONFIG} --weights tiny_pose.pth --manifest {MANIFEST} --dataset people --flip 1 "
    "--output build/reference/people.json --keypoints build/reference/keypoints.json",
    ("build/reference",),
    "build/reference/people.json",
)
CHAIN = (
    *(PEOPLE, GEARS, ONNX, OM, PREPROCESS, PREPROCESS_FLIP, INFER, INFER_FLIP, CHUNKS, DECODE, JOIN, COCO, POSE, SHOW),
    EVALUATE,
)


def name(stage: Stage) -> str:
    """The name of a test."""
    return stage.module + {PREPROCESS_FLIP: "-flip", INFER_FLIP: "-flip", POSE: "-run"}.get(stage, "")


def sources(folder: Path) -> Path:
    """A directory with a config and a checkpoint, the first inputs."""
    tiny.write_pose_weights(folder, joints=17)
    return folder
