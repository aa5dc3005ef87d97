"""The accuracy of an ONNX classifier before it is compiled: plain onnxruntime in float32, on the inputs of a manifest.

    python -m atc.reference --cfg build/mine/mine.yaml --model mine.onnx \\
        --manifest build/mine/prep/imagenet-float32/manifest.json \\
        --output build/mine/reference/imagenet-float32-onnx.json

Reads    the config, the ONNX file, the manifest and the inputs beside it
Writes   a metrics record, as train.classification.reference does for PyTorch

The file is used as given, without the changes that atc or its emulator makes: no fixed batch size, AIPP or float16.
Pixels of uint8 inputs are normalised by `(pixel / 255 - mean) / std`, each step in float32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnxruntime
from yacs.config import CfgNode

from atc import classifier, graph
from hrnet.cli import UserError, WorkFailed, command, plural, progress
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError
from hrnet.io.reference import describe, write_reference
from hrnet.io.stamp import Stamp, is_current, tensors_state, touch
from hrnet.io.tensors import read_output
from hrnet.schemas import CLASSIFIERS

TOP = 5  # Top-1 to Top-5
BATCH = 16  # images at a time, if the file's batch size is dynamic
MODULE = "atc.reference"
PREPARE = "run make preprocess"
PIXEL_MAX = np.float32(255)


def read_input(folder: Path, image: InputImage, manifest: Manifest, config: CfgNode) -> np.ndarray:
    """One input as float32 [3, H, W]; pixels are normalised. Raises FormatError for a file of another size."""
    path = folder / f"{image.stem}.{manifest.suffix}"
    values = read_output(path, manifest.dtype, PREPARE)
    if values.size != np.prod(image.shape):
        raise FormatError("wrong number of values", where=path, expected=image.shape, found=values.size, hint=PREPARE)
    values = values.reshape(image.shape)
    if manifest.dtype == "float32":
        return values
    mean, std = (np.array(each, np.float32) for each in (config.INPUT.MEAN, config.INPUT.STD))
    normalised: np.ndarray = (values.astype(np.float32) / PIXEL_MAX - mean) / std
    return normalised.transpose(2, 0, 1)


def load(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are exceptions too
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no other common base class
        raise UserError(f"onnxruntime cannot load the model: {' '.join(str(error).split())}", where=model) from None


def scores_of(
    session: onnxruntime.InferenceSession, found: classifier.Classifier, inputs: Iterator[np.ndarray], count: int
) -> np.ndarray:
    """The outputs float32 [count, outputs] for `count` inputs float32 [3, H, W]. If the batch size is fixed, the
    last batch is filled up with zeros."""
    size = found.batch if found.batch > 0 else BATCH
    rows = []
    for start in progress(range(0, count, size), unit="batch"):
        batch = [next(inputs) for _ in range(min(size, count - start))]
        stack = np.zeros((found.batch if found.batch > 0 else len(batch), *batch[0].shape), np.float32)
        stack[: len(batch)] = batch
        try:
            scores = session.run([found.output], {found.input: stack})[0]
        except Exception as error:
            raise WorkFailed(f"onnxruntime cannot run the model: {' '.join(str(error).split())}") from None
        rows.append(scores.reshape(len(stack), -1)[: len(batch)].astype(np.float32))
    return np.concatenate(rows)


def count_hits(scores: np.ndarray, labels: np.ndarray) -> list[int]:
    """How many labels are among the first 1, 2, … 5 classes; of equal scores the lower class comes first.

    `scores`: float32 [N, outputs]; `labels`: int [N], indices of outputs.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    hits: list[int] = np.cumsum(ranked == labels[:, None], axis=1).sum(axis=0).tolist()
    return hits


def check(config: CfgNode, config_hash: str, manifest: Manifest, args: argparse.Namespace) -> classifier.Classifier:
    """What the ONNX file contains. Raises UserError if file, config and manifest do not match."""
    if manifest.config_sha256 != config_hash:
        raise UserError(
            "the inputs were made with another config", where=args.manifest, expected=args.cfg, hint=PREPARE
        )
    found = classifier.inspect(classifier.read(args.model), args.model, config.MODEL.IMAGE_SIZE)
    classes = config.MODEL.NUM_CLASSES
    if found.outputs not in (classes, classes + 1):
        expected = f"{classes} as MODEL.NUM_CLASSES, or {classes + 1} with a background class first"
        raise UserError("wrong number of outputs", where=args.model, expected=expected, found=found.outputs)
    return found


def run(args: argparse.Namespace) -> None:
    """Evaluate, write the record, print one line."""
    config, manifest = load_config(args.cfg, *CLASSIFIERS), Manifest.read(args.manifest)
    config_hash, labels = config_sha256(config), np.array(manifest.labels())
    found = check(config, config_hash, manifest, args)
    settings: dict[str, Any] = {"config_sha256": config_hash, "onnxruntime": onnxruntime.__version__}
    settings["inputs_state"] = tensors_state(args.manifest.parent)
    data = {path.name: path for path in graph.external_data(args.model)}
    stamp = Stamp.compute([MODULE], settings, {**data, "manifest": args.manifest, "model": args.model})
    if is_current(args.output, stamp, [args.output]):
        return touch(args.output, [args.output])
    inputs = (read_input(args.manifest.parent, image, manifest, config) for image in manifest.images)
    scores = scores_of(load(args.model), found, inputs, len(labels))
    if not np.isfinite(scores).all():
        source = manifest.images[int(np.isfinite(scores).all(axis=1).argmin())].source
        raise WorkFailed("the outputs contain NaN or infinite values", where=args.model, found=f"for {source}")
    background = found.outputs - config.MODEL.NUM_CLASSES  # 1: a background class comes first
    hits = count_hits(scores, labels + background)
    metrics = {f"top{n}": 100 * (count / len(labels)) for n, count in enumerate(hits, 1)}
    figures = {
        "metrics": metrics,
        "hits": hits,
        "images": len(labels),
        "classes": found.outputs,
        "predicted": (scores.argmax(axis=1) - background).tolist(),
        **({"external_data": {name: stamp.files[name] for name in data}} if data else {}),
    }
    tool = f"onnxruntime {onnxruntime.__version__} in float32"
    write_reference([args.output], figures, manifest, stamp, "model", tool)
    return print(f"wrote {args.output} ({plural(len(labels), 'image')}, {describe(metrics, found.outputs)})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atc.reference", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    parser.add_argument("--output", type=Path, required=True, help="metrics record to write (JSON)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
