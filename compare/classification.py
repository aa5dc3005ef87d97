"""Compare the logits of a classifier from stage to stage, to find where accuracy is lost.

    python -m compare.classification --cfg demo_digits --manifest build/demo_digits/prep/digits-float32/manifest.json \\
        --onnx build/demo_digits/model.onnx --model build/demo_digits/om/bs16-float32-fp16.onnx \\
        --run build/demo_digits/out/digits-float32/onnxruntime-bs16-fp16_run.json \\
        --metrics build/demo_digits/eval/digits-float32/onnxruntime-bs16-fp16.json \\
        --output build/demo_digits/compare/digits-float32/onnxruntime-bs16-fp16/stages.json

Reads    the inputs beside the manifest, both models, the outputs of infer, eval's metrics and predictions;
         --torch_images and --torch_inputs: PyTorch's logits for the images and for the inputs, which
         train.classification.reference wrote
Writes   <output> (kind `comparison`) and the same table as .md

The columns are, from left to right: torch on the images, torch on the inputs of preprocess (each only if its option is
given), the ONNX file, the compiled model (only if it is an .onnx), and the outputs that infer wrote. The figures of a
step compare a column with the one before it. The accuracy of the last column must be equal to that in eval's metrics.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from compare import columns
from compare.columns import COMPILED, INFER, ONNX, TORCH_IMAGES, TORCH_INPUTS, Runner, Step
from compare.tables import Table
from hrnet.cli import UserError, command, first_few, plural, progress
from hrnet.config import config_sha256, load_config
from hrnet.inputs import planes, read_input
from hrnet.io.files import make_folder
from hrnet.io.predictions import ClassPrediction, read_predictions
from hrnet.io.records import FormatError
from hrnet.io.stamp import is_current, touch
from hrnet.schemas import CLASSIFIERS
from postprocess.logits import read_logits
from postprocess.topn import TOP, Outputs, label_offset, label_ranks, read_outputs

LISTED = 5  # changed images of each step on the screen


class Files(NamedTuple):
    """What is compared."""

    outputs: Outputs  # of infer
    predictions: list[ClassPrediction]
    metrics: dict[str, Any]


def read_files(args: argparse.Namespace) -> Files:
    """Read and check all records. Raises UserError if they describe different models or images."""
    outputs = read_outputs(args.cfg, args.manifest, args.run)
    columns.check_model(args, outputs.record.model_sha256)
    metrics = columns.check_metrics(args.metrics, outputs.manifest)
    path = args.metrics.with_suffix("") / "predictions.jsonl"
    predictions = list(read_predictions(path, ClassPrediction))
    if [each.source for each in predictions] != [image.source for image in outputs.manifest.images]:
        raise FormatError("not the images of the manifest", where=path, hint="run make eval")
    return Files(outputs, predictions, metrics)


def blocks(args: argparse.Namespace, written: Outputs) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Yield (images, {column: logits, float32 [n, classes]}) for n images at a time."""
    config, images = load_config(args.cfg, *CLASSIFIERS), written.manifest.images
    torch = {TORCH_IMAGES: args.torch_images, TORCH_INPUTS: args.torch_inputs}
    stored = {name: columns.read_torch(path, len(images)) for name, path in torch.items() if path}
    names = [tensor.name for tensor in written.record.outputs]
    runners = {ONNX: Runner(args.onnx, names)}
    if columns.runnable(args.model):
        runners[COMPILED] = Runner(args.model, names)
    step = max(runner.batch or columns.BATCH for runner in runners.values())
    for start in progress(range(0, len(images), step), unit="batch"):
        part = slice(start, start + step)
        values = np.concatenate([read_input(args.manifest.parent, image, written.manifest) for image in images[part]])
        logits = {name: np.asarray(rows[part], np.float32) for name, rows in stored.items()}
        for name, runner in runners.items():
            given = planes(values, config) if name == ONNX else values
            logits[name] = runner(given)[0].reshape(len(values), -1).astype(np.float32)
        hint = f"rm {args.run}; make infer"
        logits[INFER] = read_logits(written.files[part], written.dtype, written.size, hint)
        yield part, logits


class Result:
    """Counts and differences over all images. `where`: the metrics record, for errors."""

    def __init__(self, files: Files, where: Path) -> None:
        self.labels, self.predictions, self.where = np.array(files.outputs.manifest.labels()), files.predictions, where
        self.classes, self.names = files.outputs.manifest.classes, list[str]()
        self.hits: dict[str, np.ndarray] = {}
        self.steps: list[Step] = []

    def add(self, part: slice, logits: dict[str, np.ndarray]) -> None:
        """Add the logits of each column for the images in `part`."""
        if not self.names:
            self.names = list(logits)
            self.hits = {name: np.zeros(TOP, np.int64) for name in logits}
            self.steps = [Step(*pair) for pair in zip(self.names, self.names[1:])]
        chosen = {}
        for name, values in logits.items():
            offset = label_offset(values.shape[1], self.classes, self.where)
            ordered = np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
            ranks = label_ranks(ordered, self.labels[part] + offset)
            self.hits[name] += [int((ranks < n).sum()) for n in range(1, TOP + 1)]
            chosen[name] = (ordered.argmax(axis=1) - offset).tolist()
            if name == INFER and ranks.tolist() != [each.rank for each in self.predictions[part]]:
                raise UserError("predictions.jsonl and outputs differ", where=self.where, hint="run make eval")
        chosen[INFER] = [each.classes[0] for each in self.predictions[part]]
        for step in self.steps:
            before, after = logits[step.before], logits[step.after]
            if before.shape != after.shape:
                what = f"{step.before} and {step.after} have different numbers of classes"
                raise UserError(what, where=self.where, found=[before.shape[1], after.shape[1]])
            step.sums.add(before, after)
            for each, old, new in zip(self.predictions[part], chosen[step.before], chosen[step.after]):
                if old != new:
                    step.changed.append({"source": each.source, "label": each.label, "from": old, "to": new})

    def columns(self) -> list[dict[str, Any]]:
        tops = range(min(TOP, self.classes))
        accuracies = {name: self.hits[name] / len(self.labels) for name in self.names}
        return [
            {"name": name, "hits": self.hits[name].tolist(), **{f"top{n + 1}": 100 * accuracies[name][n] for n in tops}}
            for name in self.names
        ]


def check_agrees(found: dict[str, Any], metrics: dict[str, Any], where: Path) -> None:
    """Raise UserError unless the accuracies in the column of infer are equal to eval's."""
    for name, value in metrics.items():
        if name in found and abs(found[name] - value) > 1e-9:
            expected = f"{name} {found[name]:.4f}% as in the outputs"
            raise UserError(
                "the metrics and the outputs differ", where=where, expected=expected, found=value, hint="run make eval"
            )


def make_table(result: Result, model: str) -> Table:
    """One column for each stage. The figures of a step are in the later one of its two columns."""
    shown = result.columns()
    rows = [["Top-1 %", *(f"{column['top1']:.2f}" for column in shown)]]
    if "top5" in shown[0]:
        rows.append(["Top-5 %", *(f"{column['top5']:.2f}" for column in shown)])
    rows.append(["Top-1 changed, images", "", *(str(len(step.changed)) for step in result.steps)])
    title = f"{model} on {plural(len(result.labels), 'image')}; each column is compared with the one before it"
    return Table(title, ["", *result.names], [*rows, *columns.difference_rows(result.steps, "logits")])


def changed_lines(steps: list[Step]) -> list[str]:
    """The images whose Top-1 changed, one line for each step."""
    lines = []
    for step in steps:
        texts = [f"{each['source']} ({each['from']} -> {each['to']}, label {each['label']})" for each in step.changed]
        if texts:
            lines.append(f"{step.before} -> {step.after}: Top-1 changed in {first_few(texts, LISTED)}")
    return lines or [columns.UNCHANGED]


def run(args: argparse.Namespace) -> None:
    config = load_config(args.cfg, *CLASSIFIERS)
    stamp = columns.make_stamp("compare.classification", args, {"config_sha256": config_sha256(config)})
    products = [args.output.with_suffix(".md"), args.output]
    if is_current(args.output, stamp, products):
        return touch(args.output, products)
    files = read_files(args)
    result = Result(files, args.metrics)
    for part, logits in blocks(args, files.outputs):
        result.add(part, logits)
    found = result.columns()
    check_agrees(found[-1], files.metrics["metrics"], args.metrics)
    make_folder(args.output.parent)
    content = {
        "images": len(files.outputs.manifest.images),
        "images_sha256": files.outputs.manifest.images_sha256(),
        "columns": found,
        "steps": [step.record() for step in result.steps],
    }
    table = make_table(result, args.model.name)
    return columns.write_result(args, stamp, table, changed_lines(result.steps), content)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    return columns.make_parser("compare.classification", __doc__.splitlines()[0]).parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
