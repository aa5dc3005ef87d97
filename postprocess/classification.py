"""The outputs of a run -> Top-1 to Top-5, the model zoo's result.json, and a metrics record with the gate's verdict.

    python -m postprocess.classification --cfg hrnet_w18
        --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    the manifest's labels and the outputs that the run record lists, joined by stem
Writes   <output without .json>/result.json, then the metrics record --output; a stamp beside it (hrnet/io/stamp.py)

Source: the model zoo's imagenet_acc_eval.py, whose call on a bare directory is `postprocess.imagenet_acc_eval`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Optional

import numpy as np

from hrnet.cli import command
from hrnet.config import add_cfg_argument, load_config
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.schemas import CLASSIFICATION
from postprocess.checks import check_inputs, check_manifest, check_run
from postprocess.gate import add_comparison_arguments, find_reference, judge, wilson_interval
from postprocess.topn import TOP, cumulative_accuracies, rank_files, write_result


def run(args: argparse.Namespace) -> None:
    """Write result.json and the metrics record, unless the same files, settings and code have written them before."""
    started = time.perf_counter()
    config = load_config(args.cfg, CLASSIFICATION)
    manifest, record = Manifest.read(args.manifest), RunRecord.read(args.run)
    check_manifest(manifest, args.manifest, config, args.cfg)
    check_inputs(record.manifest_sha256, args.run, [sha256_file(args.manifest)], args.manifest, "run make infer")
    check_run(record, args.run, manifest, args.cfg, outputs=1)
    reference = find_reference("top1", args.reference, config, record.manifest_sha256)
    result = args.output.with_suffix("") / "result.json"
    files = {"cfg": args.cfg, "manifest": args.manifest, "run": args.run}
    files |= {"reference": args.reference} if args.reference else {}
    stamp = Stamp.of(["postprocess.classification"], {"gate": args.gate}, files)
    if is_current(args.output, stamp, [result, args.output]):
        touch(args.output, [result, args.output])
        return

    folder, (output,) = output_folder(args.run), record.outputs
    paths = [os.path.join(folder, record.files[image.stem][0]) for image in manifest.images]
    size = output.bytes_of_one() // np.dtype(output.dtype).itemsize
    hint = f"rm {args.run}; make infer"
    ranks, classes = rank_files(paths, manifest.labels(), manifest.classes, output.dtype, size, hint)

    count = len(paths)
    accuracies = cumulative_accuracies(ranks, min(TOP, classes))
    metrics = {f"top{n}": 100 * accuracy for n, accuracy in enumerate(accuracies, 1)}
    intervals = {f"top{n}": [100 * end for end in wilson_interval(a, count)] for n, a in enumerate(accuracies, 1)}
    make_folder(result.parent)
    write_result(result, accuracies, count, classes)
    content = {
        "name": args.cfg.stem,
        "metrics": metrics,
        "interval95": intervals,
        "images": count,
        "classes": classes,
        "batch": record.batch,
        "counts": {
            "inputs": len(manifest.images),
            "outputs": count,
            "evaluated": int(ranks.size),
            "rejected": manifest.rejected,
        },
        **judge("top1", metrics["top1"], reference, args.gate),
        "evaluated": {
            "manifest_sha256": record.manifest_sha256,
            "run_sha256": stamp.files["run"],
            "model_sha256": record.model_sha256,
        },
        "model": record.metadata,
        "tool": record.tool,
        "images_per_second": {
            "infer end to end": record.images_per_second,
            "device alone": record.device.get("throughput"),
        },
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    write_record(args.output, "metrics", content)
    write_stamp(args.output, stamp, [result, args.output])
    rate = count / (time.perf_counter() - started)
    figures = ", ".join(f"{name} {value:.2f}%" for name, value in metrics.items())
    print(f"evaluated {count} images into {args.output} ({rate:.0f} img/s): {figures}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.classification", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    parser.add_argument("--run", type=Path, required=True, help="the run record that infer.run wrote")
    add_comparison_arguments(parser, "Top-1")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
