"""Train a classification network on a data set in ImageNet's layout, or validate a checkpoint.

    python -m train.classification --dataset data/imagenet --cfg hrnet_w18
    python -m train.classification --dataset data/imagenet --cfg hrnet_w18 --nproc 8 --batch_size 256 --lr 0.1

Reads    train/<class>/*, val/ in any layout of `hrnet.datasets`, the config's MODEL, INPUT, DATASET, TRAIN and TEST
Writes   below --output: checkpoint.pth.tar and metrics.jsonl after each epoch, model_best.pth.tar after each epoch with
         the best Top-1 so far (train/state.py), output/<device>/train_<rank>.log. With --eval, instead of these:
         output/<device>/eval_<rank>.log, and eval_<rank>.txt with the predicted class of each image. Each run, at its
         end: output/<device>/<config>_bs<batch>_<processes>p_<acc|perf|eval>.log
Locks    <output>_lock
Resumes  the same command continues after the last finished epoch, with the same losses as an uninterrupted run
Measures with --stop_step N the speed of N steps, without validation or checkpoint

The learning rate is multiplied by the number of processes.
"""

from __future__ import annotations

import argparse
import sys
from typing import Optional

from hrnet.cli import command
from train import run
from train.classification.task import ClassificationTask
from train.state import BEST


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.classification", description=__doc__.splitlines()[0])
    run.add_arguments(parser)
    parser.add_argument("--eval", action="store_true", help=f"validate --weights (default: {BEST} of --output)")
    return run.finish_arguments(parser, parser.parse_args(argv))


@command
def main(argv: Optional[list[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    run.main("train.classification", ClassificationTask, parse_args(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
