"""Shared by the comparisons of both tasks: models in onnxruntime, and the steps between columns of the table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import onnxruntime

from compare.sums import Sums
from compare.tables import Table, short, write_tables
from hrnet.cli import UserError, WorkFailed, plural
from hrnet.config import add_cfg_argument
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.runs import output_folder
from hrnet.io.stamp import Stamp, tensors_state, write_stamp

BATCH = 16  # images, for a model whose batch size is not fixed
FATAL_ONLY = 4
TORCH_IMAGES, TORCH_INPUTS, ONNX, COMPILED, INFER = "torch images", "torch inputs", "ONNX", "compiled", "infer"


class Runner:
    """An ONNX file in onnxruntime. Computes `outputs` if the file has all of them, else all outputs of the file."""

    def __init__(self, path: Path, outputs: Sequence[str] = ()) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        self.path = path
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no other common base class
            raise UserError(f"onnxruntime cannot load the model: {' '.join(str(error).split())}", where=path) from None
        given = self.session.get_inputs()
        if len(given) != 1:
            raise UserError("the model has several inputs", where=path, expected=1, found=[each.name for each in given])
        self.name = given[0].name
        known = {each.name for each in self.session.get_outputs()}
        self.outputs = list(outputs) if known.issuperset(outputs) else []
        self.batch: Optional[int] = given[0].shape[0] if isinstance(given[0].shape[0], int) else None

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """The outputs for `values` [N, …], computed in batches of the model's size. If the last batch is smaller, its
        first image is repeated."""
        size = self.batch or len(values)
        results = [self._run(values[start : start + size], size) for start in range(0, len(values), size)]
        return [np.concatenate(outputs) for outputs in zip(*results)]

    def _run(self, values: np.ndarray, size: int) -> list[np.ndarray]:
        filled = np.concatenate([values, np.repeat(values[:1], size - len(values), axis=0)])
        try:
            outputs = self.session.run(self.outputs or None, {self.name: filled})
        except Exception as error:
            what = f"onnxruntime cannot run the model: {' '.join(str(error).split())}"
            raise WorkFailed(what, where=self.path) from None
        return [np.asarray(output)[: len(values)] for output in outputs]


class Step:
    """The differences between two neighbouring columns. `changed`: images whose result differs."""

    def __init__(self, before: str, after: str) -> None:
        self.before, self.after, self.sums = before, after, Sums()
        self.changed: list[dict[str, Any]] = []

    def record(self) -> dict[str, Any]:
        """The step as JSON values, without the differences (`max`, `mean`, …) if no values were compared."""
        error = self.sums.error()
        figures = {
            "max": error.largest,
            "mean": error.mean,
            "relative": error.relative,
            "cosine": error.cosine,
            "not_finite": self.sums.not_finite,
        }
        return {"from": self.before, "to": self.after, **(figures if self.compared() else {}), "changed": self.changed}

    def compared(self) -> bool:
        """Whether output values were compared; torch's maps are not stored, so only its people are compared."""
        return bool(self.sums.values or self.sums.not_finite)


def difference_rows(steps: list[Step], what: str) -> list[list[str]]:
    """Rows of the table: the differences of each step, in the later one of its two columns."""

    def row(title: str, figure: Callable[[Step], str]) -> list[str]:
        return [title, "", *(figure(step) if step.compared() else "" for step in steps)]

    rows = [
        row(f"max difference of {what}", lambda step: short(step.sums.error().largest)),
        row("mean difference", lambda step: short(step.sums.error().mean)),
        row("1 - cosine", lambda step: short(1 - step.sums.error().cosine)),
    ]
    if any(step.sums.not_finite for step in steps):
        rows.append(row("NaN or infinite", lambda step: str(step.sums.not_finite)))
    return rows


def runnable(model: Path) -> bool:
    """Whether onnxruntime can run a compiled model; only infer can run an .om, on its device."""
    return model.suffix == ".onnx"


def read_torch(path: Path, images: int) -> np.ndarray:
    """PyTorch's logits, float32 [images, classes], mapped into memory."""
    hint = f"rm {path}; make compare"
    try:
        logits = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise FormatError("not a readable .npy file", where=path, hint=hint) from None
    if logits.ndim != 2 or len(logits) != images or logits.dtype.kind != "f":
        found = f"{logits.dtype} {list(logits.shape)}"
        raise FormatError(
            "not the logits of these images", where=path, expected=f"{images} rows", found=found, hint=hint
        )
    return logits


def check_metrics(path: Path, manifest: Manifest) -> dict[str, Any]:
    """The metrics record of make eval. Raises UserError if it is for other images."""
    record = read_record(path, "metrics", hint="run make eval")
    if record.get("images_sha256") != manifest.images_sha256() or not isinstance(record.get("metrics"), dict):
        raise UserError("evaluated on other images", where=path, hint="run make eval")
    return record


def make_stamp(module: str, args: argparse.Namespace, settings: dict[str, Any]) -> Stamp:
    names = ("manifest", "run", "metrics", "onnx", "torch_images", "torch_inputs")
    given = {name: getattr(args, name) for name in names}
    files = {name: path for name, path in given.items() if path is not None}
    settings = {**settings, "model": args.model.name, "onnxruntime": onnxruntime.__version__}
    folders = {"inputs_state": args.manifest.parent, "outputs_state": output_folder(args.run)}
    settings |= {name: tensors_state(folder) for name, folder in folders.items()}
    return Stamp.compute([module], settings, {**files, "model": args.model})


# Printed if no step changes a result.
UNCHANGED = "no stage changes a result: if accuracy is too low, check labels, class order, checkpoint, preprocessing"


def write_result(
    args: argparse.Namespace, stamp: Stamp, table: Table, lines: list[str], content: dict[str, Any]
) -> None:
    """Print the table, write the Markdown, the record and the stamp."""
    write_tables(args.output, f"{args.model.name}: from stage to stage", table, table, lines)
    compiled = {"model": args.model.name, "model_sha256": sha256_file(args.model)}
    write_record(args.output, "comparison", {**compiled, **content})
    write_stamp(args.output, stamp, [args.output.with_suffix(".md"), args.output])
    print(f"wrote {args.output} ({plural(content['images'], 'image')})")
    if args.model.suffix == ".ts":
        print("no table of operators for TorchScript; for the operators of the ONNX file give BACKEND=onnxruntime")


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description)
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    parser.add_argument("--onnx", type=Path, required=True, help="the float32 ONNX file")
    parser.add_argument("--model", type=Path, required=True, help="compiled model with its record beside it")
    parser.add_argument("--run", type=Path, required=True, help="run record of infer")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics record of eval")
    parser.add_argument("--output", type=Path, required=True, help="record to write (JSON); .md is written beside it")
    text = "result of train.<task>.reference on the images: logits (.npy) or keypoints (.json)"
    parser.add_argument("--torch_images", type=Path, help=text)
    parser.add_argument("--torch_inputs", type=Path, help="the result of the same script with its option --inputs")
    return parser


def check_model(args: argparse.Namespace, run_model_sha256: str) -> CompiledModel:
    """The record of the compiled model. Raises UserError unless infer ran this model."""
    compiled = CompiledModel.read(args.model)
    if compiled.model_sha256 != run_model_sha256:
        raise UserError("infer ran another model", where=args.run, expected=args.model, hint="run make infer")
    return compiled
