"""The outputs of a run -> Top-1 to Top-5, the seed's result.json, and a metrics record with the gate's verdict.

    python -m postprocess.classification --cfg configs/hrnet_w18.yaml
        --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    the manifest's labels and the outputs that the run record lists, joined by stem
Writes   <output without .json>/result.json, then the metrics record --output

Source: the seed's imagenet_acc_eval.py, whose call on a bare directory is `postprocess.imagenet_acc_eval`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from yacs.config import CfgNode

from hrnet.cli import UserError, command, cores, first_few
from hrnet.config import config_sha256, load_config
from hrnet.io import fast_read, tensors
from hrnet.io.files import AnyPath, make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, write_record
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.summary import write_topn_result
from hrnet.schemas import CLASSIFICATION
from hrnet.workers import map_files
from postprocess.gate import find_reference, judge, points, wilson_interval

TOP = 5
IMAGES_AT_ONCE = 64  # 256 KB of 1000 float32 classes: what a core has at hand
IMAGES_ALONE = 2048  # up to so many, processes would take longer to start than the work takes


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the label's: 0 is a Top-1 hit. Among equals the lower index comes first.

    logits float [N, C], labels int [N] in 0..C-1; returns int [N].
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    ranks: np.ndarray = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return ranks


def cumulative_accuracies(ranks: np.ndarray, top: int) -> list[float]:
    """Fractions of images whose label is among the first 1, 2, … `top` classes."""
    return [float((ranks < n).mean()) for n in range(1, top + 1)]


def label_offset(outputs: int, classes: int, where: object) -> int:
    """0 when the model has the dataset's classes, 1 when it has a background class before them (1001 for 1000)."""
    if outputs not in (classes, classes + 1):
        expected = f"{classes} classes, or {classes + 1} with a background class first"
        raise FormatError("outputs do not fit the labels", where=where, expected=expected, found=outputs)
    return outputs - classes


def read_logits(files: Sequence[AnyPath], dtype: str, size: int, hint: Optional[str]) -> np.ndarray:
    """float32 [N, C] of N files of one ending and of one image each; C must be `size` unless that is 0, and no value
    NaN."""
    size = size or tensors.read_output(files[0], dtype, hint).size
    ending = os.path.splitext(files[0])[1]
    logits = np.empty((len(files), size), dtype if ending == ".bin" else np.float32)
    header = b"" if ending == ".bin" else None
    for i, (row, file) in enumerate(zip(logits, files)):
        if header is not None and fast_read.read_values_into(row, file, header):
            continue
        values = tensors.read_output(file, dtype, hint).reshape(-1)
        if i == 0 and ending == ".npy":
            header = fast_read.npy_header(file)
        if values.size != size:
            raise FormatError("number of classes", where=file, expected=size, found=values.size, hint=hint)
        row[:] = values
    faulty = np.isnan(logits).any(axis=1)
    if faulty.any():
        count = np.isnan(logits[faulty.argmax()]).sum()
        found = f"{count} NaN of {size} values: the input, the weights or an overflow in fp16"
        raise FormatError("is NaN", where=files[int(faulty.argmax())], expected="numbers", found=found)
    return logits.astype(np.float32, copy=False)


class Block(NamedTuple):
    """Some images that are ranked together."""

    files: Sequence[str]
    labels: np.ndarray  # int [N], places among the outputs


def rank_block(block: Block, dtype: str, size: int, hint: Optional[str]) -> np.ndarray:
    """Ranks of the labels (int [N]) of a block."""
    return label_ranks(read_logits(block.files, dtype, size, hint), block.labels)


def rank_files(
    files: Sequence[str],
    labels: Sequence[int],
    classes: int,
    dtype: str = "float32",
    size: int = 0,
    hint: Optional[str] = None,
) -> tuple[np.ndarray, int]:
    """Ranks of the labels (int [N]) and the number of outputs C, from one file for each image, all of one ending.

    `classes` 0: unknown, and shifted only at 1001 outputs, as the seed does. `size`: C, 0 where it is not known before.
    `mend`: the command that would make the outputs anew. Memory does not grow with the outputs.
    """
    outputs = size or tensors.read_output(files[0], dtype, hint).size
    offset = label_offset(outputs, classes or (1000 if outputs == 1001 else outputs), os.path.dirname(files[0]))
    wanted = np.asarray(labels) + offset
    if wanted.max() >= outputs:
        file, found = files[int(wanted.argmax())], int(wanted.max()) - offset
        expected = f"below {outputs - offset}"
        raise FormatError("label outside the classes", where=file, expected=expected, found=found)
    starts = range(0, len(files), IMAGES_AT_ONCE)
    blocks = [Block(files[start : start + IMAGES_AT_ONCE], wanted[start : start + IMAGES_AT_ONCE]) for start in starts]
    rank = partial(rank_block, dtype=dtype, size=outputs, hint=hint)
    ranks = map_files(rank, blocks, cores()) if len(files) > IMAGES_ALONE else list(map(rank, blocks))
    return np.concatenate(ranks), outputs


def check_joint(args: argparse.Namespace, config: CfgNode, manifest: Manifest, record: RunRecord) -> None:
    """Config, inputs and outputs must speak of one model and of the same images."""
    if manifest.config_sha256 != config_sha256(config):
        raise UserError(f"was made for another config than {args.cfg}", where=args.manifest, hint="run make preprocess")
    if record.metadata.get("config_sha256", manifest.config_sha256) != manifest.config_sha256:
        found = record.metadata.get("model")
        hint = "say the MODEL that the ONNX file was made from"
        raise UserError("is of a model of another config", where=args.run, expected=args.cfg, found=found, hint=hint)
    if record.manifest_sha256 != sha256_file(args.manifest):
        expected = f"those of {args.manifest}"
        raise UserError("run was made from other inputs", where=args.run, expected=expected, hint="run make infer")
    differ = {image.stem for image in manifest.images} ^ set(record.files)
    if differ:
        hint = f"rm {args.run}; make infer"
        raise FormatError("outputs and inputs differ", where=args.run, found=first_few(sorted(differ)), hint=hint)
    if len(record.outputs) != 1 or any(len(names) != 1 for names in record.files.values()):
        names = [tensor.name for tensor in record.outputs]
        raise FormatError("a classifier has one output", where=args.run, found=names)


def run(args: argparse.Namespace) -> None:
    """Write result.json and the metrics record."""
    started = time.perf_counter()
    config = load_config(args.cfg, CLASSIFICATION)
    manifest, record = Manifest.read(args.manifest), RunRecord.read(args.run)
    check_joint(args, config, manifest, record)
    held = find_reference("top1", args.reference, config, record.manifest_sha256)

    folder, (output,) = output_folder(args.run), record.outputs
    files = [os.path.join(folder, record.files[image.stem][0]) for image in manifest.images]
    labels = manifest.labels()
    size = output.bytes_of_one() // np.dtype(output.dtype).itemsize
    hint = f"rm {args.run}; make infer"
    ranks, classes = rank_files(files, labels, manifest.classes, output.dtype, size, hint)

    count = len(files)
    accuracies = cumulative_accuracies(ranks, min(TOP, classes))
    metrics = {f"top{n}": 100 * accuracy for n, accuracy in enumerate(accuracies, 1)}
    intervals = {f"top{n}": [100 * end for end in wilson_interval(a, count)] for n, a in enumerate(accuracies, 1)}
    make_folder(args.output.with_suffix(""))
    write_topn_result(args.output.with_suffix("") / "result.json", accuracies, count, classes)
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
        **judge("top1", metrics["top1"], held, args.gate),
        "evaluated": {
            "manifest_sha256": record.manifest_sha256,
            "run_sha256": sha256_file(args.run),
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
    rate = count / (time.perf_counter() - started)
    told = ", ".join(f"{name} {value:.2f}%" for name, value in metrics.items())
    print(f"evaluated {count} images into {args.output} ({rate:.0f} img/s): {told}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.classification", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the run record that infer left")
    parser.add_argument("--output", type=Path, required=True, help="the metrics record to write")
    parser.add_argument(
        "--reference", type=Path, help="a metrics record to be held against (default: the config's figures)"
    )
    parser.add_argument("--gate", type=points, default=1.0, help="allowed drop of Top-1 in points of percent")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
