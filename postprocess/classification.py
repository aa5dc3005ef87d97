"""Evaluate the outputs of a classifier: predictions, Top-1 to Top-5, and a metrics record with the gate's verdict.

    python -m postprocess.classification --cfg hrnet_w18 \\
        --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json \\
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json \\
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    the manifest's labels, and the outputs listed in the run record, matched by stem
Writes   <output without .json>/parts/1-of-1.json with predictions (hrnet/io/parts.py) and a stamp, then the files of
         `postprocess.merge`. With --part, for a part of a data set: only its record and predictions

Source: the model zoo's imagenet_acc_eval.py. `postprocess.imagenet_acc_eval` has the same command line as that script.
"""

from __future__ import annotations

import argparse
import sys
from typing import Optional

from hrnet.cli import command
from hrnet.config import config_sha256, load_config
from hrnet.schemas import CLASSIFIERS
from postprocess.merge import add_comparison_arguments, merge_whole
from postprocess.part import Job, add_arguments, make_part
from postprocess.topn import predict


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.classification", description=__doc__.splitlines()[0])
    add_arguments(parser)
    add_comparison_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    settings = {"config_sha256": config_sha256(load_config(args.cfg, *CLASSIFIERS))}
    make_part("classification", Job.from_args(args), settings, predict)
    if args.output:
        merge_whole(args)


if __name__ == "__main__":
    sys.exit(main())
