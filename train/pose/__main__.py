"""Train a HigherHRNet on images of people in COCO's layout.

    python -m data.people --output data/demo_people --split train2017 --images 8000 --scenes plain --size 128 --seed 2
    python -m train.pose --dataset data/demo_people --cfg demo_pose
    python -m train.pose --dataset data/coco --cfg higher_hrnet_w32_512 --nproc 4 --batch_size 12

Reads    annotations/person_keypoints_<split>.json and images/<split> (split: DATASET.TRAIN), the config's MODEL, INPUT,
         DATASET, LOSS, FP16 and TRAIN
Writes   below --output: checkpoint.pth.tar and metrics.jsonl after each epoch (train/state.py),
         output/<device>/train_<rank>.log; at the end <config>.pth, a bare float32 state dict, and
         output/<device>/<config>_bs<batch>_<processes>p_<acc|perf>.log
Locks    <output>_lock
Resumes  the same command continues after the last finished epoch, with the same losses as an uninterrupted run
Measures with --stop_step N the speed of N steps, without checkpoint

The learning rate does not depend on the number of processes. A rerun with the same number of threads on the same
machine gives the same weights; another processor may round differently.
Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/trainer.py and tools/dist_train.py.
"""

from __future__ import annotations

import argparse
import sys
from typing import Optional

from hrnet.cli import command
from train import run
from train.pose.task import PoseTask


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.pose", description=__doc__.splitlines()[0])
    run.add_arguments(parser)
    parser.set_defaults(threads=1)  # more threads do not speed up the small layers of the demo
    return run.finish_arguments(parser, parser.parse_args(argv))


@command
def main(argv: Optional[list[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    run.main("train.pose", PoseTask, parse_args(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
