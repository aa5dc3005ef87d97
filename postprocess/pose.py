"""Evaluate the outputs of a HigherHRNet run: keypoints, COCO's ten AP and AR values, and the gate's verdict.

    python -m postprocess.pose --cfg higher_hrnet_w32_512 --dataset data/coco \\
        --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json \\
        --run build/higher_hrnet_w32_512/out/coco-float32/onnxruntime-bs1-fp32_run.json \\
        --run_flip build/higher_hrnet_w32_512/out/coco-float32-flip/onnxruntime-bs1-fp32_run.json \\
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32.json

Reads    the manifest, the run records with their outputs, and COCO's annotations. --dump_dir and --dump_dir_flip, the
         model zoo's flags, are the directories of outputs; their run records must be beside them
Writes   <output without .json>/parts/1-of-1.json with predictions and keypoints (hrnet/io/parts.py) and a stamp, then
         the files of `postprocess.merge`. With --part, for a part of a data set: only the files of the part

Only the manifest's images are evaluated. Source: the model zoo's HigherHRNet_postprocess.py, and COCODataset.evaluate
of https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation, commit aa23881.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Optional

from hrnet.cli import command, cores, integer
from hrnet.config import config_sha256, load_config
from hrnet.pose.decode import read_settings
from hrnet.schemas import POSE
from postprocess.decode import predict
from postprocess.merge import add_comparison_arguments, merge_whole
from postprocess.part import Job, add_arguments, make_part, run_beside


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.pose", description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--run_flip", type=Path, help="run record of the flipped images (default: no flip test)")
    text = "directory of outputs for the flipped images, instead of --run_flip"
    parser.add_argument("--dump_dir_flip", dest="run_flip", metavar="DIR", type=run_beside, help=text)
    parser.add_argument("--dataset", type=Path, required=True, help="COCO directory with annotations")
    parser.add_argument("--workers", type=integer(1), default=cores(), help="number of processes (default: all cores)")
    add_comparison_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    config = load_config(args.cfg, POSE)
    settings = {"config_sha256": config_sha256(config), **dataclasses.asdict(read_settings(config))}
    make_part("pose", Job.from_args(args), settings, partial(predict, workers=args.workers))
    if args.output:
        merge_whole(args)


if __name__ == "__main__":
    sys.exit(main())
