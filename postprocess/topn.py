"""The outputs of a run -> Top-1 to Top-5, the seed's result.json, and a metrics record with the gate's verdict.

    python -m postprocess.topn --cfg configs/hrnet_w18.yaml
        --manifest build/hrnet_w18/prep/imagenet-float32/manifest.json
        --run build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32_run.json
        --output build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    the manifest's labels and the outputs that the run record lists, joined by stem
Writes   <output without .json>/result.json, then the metrics record --output

Source: the seed's imagenet_acc_eval.py, whose call on a bare directory is `postprocess.imagenet_acc_eval`.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet import formats
from hrnet.cli import UserError, command, first_few, progress
from hrnet.config import load_config
from hrnet.files import make_folder, sha256_file
from postprocess.gate import judge, wilson_interval

TOP = 5
IMAGES_AT_ONCE = 1024  # 4 MB of 1000 float32 classes


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
        raise formats.FormatError("outputs do not fit the labels", where=where, expected=expected, found=outputs)
    return outputs - classes


def read_logits(file: Path, dtype: str, size: int) -> np.ndarray:
    """float32 [C] of one image; C must be `size` unless that is 0, and no value NaN."""
    logits = formats.read_output(file, dtype).reshape(-1).astype(np.float32, copy=False)
    if size not in (0, logits.size):
        raise formats.FormatError("number of classes", where=file, expected=f"{size}, as before", found=logits.size)
    if np.isnan(logits).any():
        raise formats.FormatError("is NaN", where=file, expected="numbers", found=f"{np.isnan(logits).sum()} NaN")
    return logits


def rank_files(files: Sequence[Path], labels: Sequence[int], dtype: str, classes: int) -> tuple[np.ndarray, int]:
    """Ranks of the labels (int [N]) and the number of outputs C, from one file for each image.

    `classes` 0: unknown, and shifted only at 1001 outputs, as the seed does. Memory does not grow with N.
    """
    ranks: list[np.ndarray] = []
    outputs = 0
    for start in progress(range(0, len(files), IMAGES_AT_ONCE), unit="block"):
        block = []
        for file in files[start : start + IMAGES_AT_ONCE]:
            block.append(read_logits(file, dtype, outputs))
            outputs = block[0].size
        offset = label_offset(outputs, classes or (1000 if outputs == 1001 else outputs), files[0].parent)
        wanted = np.asarray(labels[start : start + IMAGES_AT_ONCE]) + offset
        if wanted.max() >= outputs:
            file, found = files[start + int(wanted.argmax())], int(wanted.max()) - offset
            expected = f"below {outputs - offset}"
            raise formats.FormatError("label outside the classes", where=file, expected=expected, found=found)
        ranks.append(label_ranks(np.stack(block), wanted))
    return np.concatenate(ranks), outputs


def find_reference(reference: Optional[Path], config: Any, cfg: Path, manifest_sha256: str) -> Optional[dict[str, Any]]:
    """What the gate holds a result against: a metrics record on the same images, else the config's published figures
    (None when it has none)."""
    if reference is None:
        if not config.REFERENCE.TOP1:
            return None
        return {
            "top1": config.REFERENCE.TOP1,
            "top5": config.REFERENCE.TOP5,
            "source": config.REFERENCE.SOURCE or str(cfg),
        }
    record = formats.read_record(reference, "metrics", mend="run make reference")
    told = record.get("manifest_sha256") or record.get("evaluated", {}).get("manifest_sha256")
    if told != manifest_sha256:
        mend = "make it from the same DATASET and LIMIT"
        raise UserError("reference was made on other images", where=reference, mend=mend)
    if "top1" not in record.get("metrics", {}):
        raise formats.FormatError("holds no top1", where=reference, mend="run make reference")
    figures = {key: value for key, value in record["metrics"].items() if key in ("top1", "top5")}
    return {**figures, "source": f"{record.get('tool', reference)} on the same images"}


def run(
    cfg: Path, manifest_path: Path, run_path: Path, output: Path, reference: Optional[Path], allowed: float
) -> None:
    """Write result.json and the metrics record."""
    started = time.perf_counter()
    config = load_config(cfg)
    manifest = formats.Manifest.read(manifest_path)
    record = formats.RunRecord.read(run_path)
    manifest_sha256 = sha256_file(manifest_path)
    if record.manifest_sha256 != manifest_sha256:
        raise UserError(
            "run was made from other inputs",
            where=run_path,
            expected=f"those of {manifest_path}",
            mend="run make infer",
        )
    held = find_reference(reference, config, cfg, manifest_sha256)

    stems = [image.stem for image in manifest.images]
    if set(stems) != set(record.files):
        differ = first_few(sorted(set(stems) ^ set(record.files)))
        raise formats.FormatError("outputs and inputs differ", where=run_path, found=differ, mend="run make infer")
    if len(record.outputs) != 1 or any(len(names) != 1 for names in record.files.values()):
        found = [tensor.name for tensor in record.outputs]
        raise formats.FormatError("a classifier has one output", where=run_path, found=found)
    folder = formats.output_folder(run_path)
    files = [folder / record.files[stem][0] for stem in stems]
    labels = [image.label for image in manifest.images]
    ranks, outputs = rank_files(files, labels, record.outputs[0].dtype, manifest.classes)

    accuracies = cumulative_accuracies(ranks, min(TOP, outputs))
    metrics = {f"top{n}": 100 * accuracy for n, accuracy in enumerate(accuracies, 1)}
    intervals = {f"top{n}": [100 * end for end in wilson_interval(a, len(stems))] for n, a in enumerate(accuracies, 1)}
    verdict = judge("top1", metrics["top1"], held, allowed)
    make_folder(output.with_suffix(""))
    formats.write_topn_result(output.with_suffix("") / "result.json", accuracies, len(stems), outputs)
    content = {
        "metrics": metrics,
        "interval95": intervals,
        "images": len(stems),
        "classes": outputs,
        "counts": {
            "inputs": len(stems),
            "outputs": len(files),
            "evaluated": int(ranks.size),
            "rejected": manifest.rejected,
        },
        **verdict,
        "evaluated": {
            "manifest_sha256": manifest_sha256,
            "run_sha256": sha256_file(run_path),
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
    formats.write_record(output, "metrics", content)
    rate = len(stems) / (time.perf_counter() - started)
    told = ", ".join(f"{name} {value:.2f}%" for name, value in metrics.items())
    print(f"evaluated {len(stems)} images into {output} ({rate:.0f} img/s): {told}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.topn", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the run record that infer left")
    parser.add_argument("--output", type=Path, required=True, help="the metrics record to write")
    parser.add_argument(
        "--reference", type=Path, help="a metrics record to be held against (default: the config's figures)"
    )
    parser.add_argument("--gate", type=float, default=1.0, help="allowed drop of Top-1 in points of percent")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.manifest, args.run, args.output, args.reference, args.gate)


if __name__ == "__main__":
    sys.exit(main())
