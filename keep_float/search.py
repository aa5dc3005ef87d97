"""Find a small set of operators that should stay in float, so that an int8 or fp16 model agrees with float32.

    python -m keep_float.search --model build/hrnet_w18/model.onnx --precision int8 \\
        --inputs build/hrnet_w18/int8/inputs --output build/hrnet_w18/keep_float/int8.txt

Reads    the float32 ONNX file, and calibration inputs with their manifest
Writes   <output>: names of nodes, one in each line (hrnet/keep_float.py); beside it the steps of the search as .json
         (kind `keep_float`) and .md; a stamp

The models are built by the emulators of amct_onnx and atc, even if the list is for an NPU. Operators are tried in the
order of the error that each one adds (compare/walk.py). A model is judged by the Kullback-Leibler divergence of its
softmax from that of float32, or, if it is not a classifier, by the relative squared error of its outputs
(keep_float/measure.py). keep_float/steps.py describes the search. It uses only the calibration images.

Exit code 1 if a model overflows in float16 with every list that was tried.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import onnxruntime

from amct import amct_rules
from amct.batches import batch_size, whole_batches
from amct.emulator import quantizer
from atc.shapes import AtcError
from compare.walk import Walk
from hrnet import markdown
from hrnet.cli import UserError, WorkFailed, command, first_few, plural
from hrnet.inputs import read_input, spread
from hrnet.io.files import make_folder, sha256_file, write_text
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import write_record
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from keep_float import candidates, steps
from keep_float.measure import Outputs, divergence, top1
from keep_float.steps import Step

WALKED = 8  # images on which operators are compared
BATCH = 8  # largest batch, if the model accepts any size


class Inputs:
    """Calibration inputs in batches that the model accepts."""

    def __init__(self, folder: Path, fixed: Optional[int]) -> None:
        self.folder, self.manifest = folder, Manifest.read(folder / "manifest.json")
        if self.manifest.dtype != "float32":
            raise UserError("not inputs for calibration", where=folder, expected="float32", found=self.manifest.dtype)
        images = self.manifest.images
        self.size = 1 if self.manifest.suffix == "npy" else batch_size(fixed, len(images), folder, BATCH)
        self.unit = fixed or 1
        self.images = images[: whole_batches(len(images), self.unit)]

    def read(self, images: list[InputImage]) -> Iterator[np.ndarray]:
        """float32 [N, C, H, W] for `size` images at a time; the last batch may be smaller, but only if the model
        accepts any batch size."""
        for start in range(0, len(images), self.size):
            part = images[start : start + self.size]
            yield np.concatenate([read_input(self.folder, image, self.manifest) for image in part])

    def split(self) -> tuple[list[InputImage], list[InputImage]]:
        """The images that set the ranges, and those that are held back, as in amct.emulator."""
        held = amct_rules.held_back(len(self.images), self.unit)
        return (self.images[:-held], self.images[-held:]) if held else (self.images, self.images)


class Search:
    """Evaluates models of one precision."""

    def __init__(self, model: onnx.ModelProto, inputs: Inputs, precision: str, where: Path) -> None:
        self.model, self.inputs = model, inputs
        if precision == "int8":
            calibrating, held = inputs.split()
            read = inputs.read
            self.candidates = candidates.int8(model, where, lambda: read(calibrating), lambda: read(held))
        else:
            self.candidates = candidates.fp16(model, where)
        self.expected, _ = self._run(model)
        self.classes = top1(self.expected)

    def _run(self, model: onnx.ModelProto) -> tuple[Outputs, float]:
        """The outputs for all batches, and images/s without reading."""
        session, seconds, found = quantizer.load(model), 0.0, Outputs()
        for batch in self.inputs.read(self.inputs.images):
            given, started = {session.get_inputs()[0].name: batch}, time.perf_counter()
            found.append(session.run(None, given))
            seconds += time.perf_counter() - started
        return found, len(self.inputs.images) / seconds

    def evaluate(self, kept: Collection[str], action: str) -> Step:
        found, speed = self._run(self.candidates.build(kept))
        changed = sum(a != b for a, b in zip(top1(found), self.classes))
        return Step(action, len(kept), divergence(self.expected, found), changed, round(speed, 1))

    def walk(self, kept: Collection[str]) -> Walk:
        """The errors of each operator if the nodes `kept` stay in float."""
        walk = Walk(self.model, self.candidates.build(kept))
        size = self.inputs.size
        for batch in self.inputs.read(spread(self.inputs.images, size * math.ceil(WALKED / size))):
            walk.add(batch, batch)
        return walk


def by_error(walk: Walk) -> list[str]:
    """The names of the nodes, sorted by the error that each one adds, largest first. A node adds the larger of two
    values: its own error, and the increase of the error from its inputs to its result. The own error alone is not
    enough: if one channel of a tensor has large values, rounding the tensor gives a small relative error, and only the
    result of the next operator shows the cost."""
    operators = {each.tensor: each for each in walk.operators()}
    worst: dict[str, tuple[int, float]] = {}
    for tensor, each in operators.items():
        before = [operators[name].error for name in walk.parts[0][tensor].feeds.values()]
        added = max(each.own_error or 0.0, each.error - max(before, default=0.0))
        if each.own_overflow or added:
            worst[each.node] = max(worst.get(each.node, (0, 0.0)), (each.own_overflow or 0, added))
    return sorted(worst, key=lambda name: worst[name], reverse=True)


def report(step: Step) -> None:
    """Print a step, and whether it changes the list of operators."""
    decides = step.action.split()[0] not in (steps.START, steps.TRY)
    decision = (": accepted" if step.accepted else ": not accepted") if decides else ""
    text = f"divergence {step.divergence:.2e} with {plural(step.operators, 'operator')} in float"
    print(f"{step.action}: {text}{decision}", flush=True)


def reject(found: list[candidates.Overflow], where: Path) -> None:
    """Raise WorkFailed for convolutions and matrix products whose inputs overflow."""
    if found:
        texts = [f"{each.node} reads {each.tensor} up to {each.largest:.3g}" for each in found]
        what = "no list of operators avoids the overflow: convolutions and matrix products always read float16"
        limit = f"at most {candidates.FLOAT16_LARGEST:.0f}"
        hint = "scale the weights before these nodes, or use PRECISION=int8"
        raise WorkFailed(what, where=where, expected=limit, found=first_few(texts), hint=hint)


def find(search: Search, precision: str, where: Path) -> tuple[list[str], list[Step]]:
    """The nodes to keep, in the graph's order, and the steps. Raises UserError if no operator has a name, and
    WorkFailed if float16 overflows with every list that was tried."""
    names = search.candidates.names
    if not names:
        raise UserError("the operators have no names, so no list can contain them", where=where)
    walk = search.walk(())
    needed: set[str] = set()
    if precision == "fp16":
        largest = {each.tensor: each.largest_value or 0.0 for each in walk.operators()}
        needed, impossible = candidates.overflow(search.model, largest)
        reject(impossible, where)
    order = [name for name in by_error(walk) if name in set(names)]
    most = max(1, math.ceil(steps.SHARE * len(names)))
    kept, done = steps.search(search.evaluate, order, needed & set(names), most, report)
    last = next(step for step in reversed(done) if step.accepted)
    if not math.isfinite(last.divergence):
        first = next((each.node for each in search.walk(kept).operators() if each.own_overflow), "unknown")
        raise WorkFailed("the outputs overflow with each list that was tried", where=where, found=f"first in {first}")
    return [name for name in names if name in kept], done


def step_record(step: Step) -> dict[str, Any]:
    """The step as JSON values; None instead of an infinite divergence, which JSON cannot represent."""
    return {**asdict(step), "divergence": step.divergence if math.isfinite(step.divergence) else None}


def table(done: list[Step]) -> str:
    head = ["step", "operators in float", "divergence", "Top-1 changed", "images/s", "accepted"]
    rows = [
        [
            each.action,
            str(each.operators),
            f"{each.divergence:.2e}",
            str(each.changed),
            f"{each.images_per_second:.1f}",
            "yes" if each.accepted else "",
        ]
        for each in done
    ]
    return markdown.table(head, rows)


def summary(names: list[str], done: list[Step]) -> str:
    """The result in one line. `names`: the nodes that stay in float; `done`: all steps."""
    first, last = done[0], next(step for step in reversed(done) if step.accepted)
    listed = f"{plural(len(names), 'operator')} in float: {first_few(names, 10)}"
    if not names:
        listed = f"no operator that was tried reduces it by {steps.GAIN:.0%} or more"
        listed = "no operator needs to stay in float" if last.divergence <= steps.GOAL else listed
    return f"divergence {first.divergence:.2e} -> {last.divergence:.2e}; {listed}"


def run(args: argparse.Namespace) -> None:
    """Search, and write the steps, then the list."""
    model = amct_rules.read_model(args.model)
    value = amct_rules.one_input(model, args.model)
    inputs = Inputs(args.inputs, amct_rules.dims(value)[0])
    data = {entry.name: entry for entry in sorted(args.model.parent.glob(f"{args.model.name}*data"))}
    data |= {image.stem: args.inputs / f"{image.stem}.{inputs.manifest.suffix}" for image in inputs.images}
    settings = {"precision": args.precision, "onnxruntime": onnxruntime.__version__}
    stamp = Stamp.compute(["keep_float.search"], settings, {"model": args.model, **data})
    products = [args.output.with_suffix(".md"), args.output.with_suffix(".json"), args.output]
    if is_current(args.output, stamp, products):
        return touch(args.output, products)
    try:
        search = Search(model, inputs, args.precision, args.model)
        names, done = find(search, args.precision, args.model)
    except AtcError as error:
        raise UserError(f"atc would reject this: {error}", where=args.model) from None
    make_folder(args.output.parent)
    images = plural(len(inputs.images), "image")
    text = f"{args.model.name}, {args.precision}: operators that stay in float, on {images}\n\n"
    write_text(products[0], text + table(done) + "\n" + "".join(f"- {name}\n" for name in names))
    content: dict[str, Any] = {
        "model": args.model.name,
        "onnx_sha256": sha256_file(args.model),
        "precision": args.precision,
        "images": [image.source for image in inputs.images],
        **search.candidates.facts,
        "candidates": len(search.candidates.names),
        "operators": names,
        "steps": [step_record(each) for each in done],
    }
    write_record(products[1], "keep_float", content)
    write_text(args.output, "".join(f"{name}\n" for name in names))
    write_stamp(args.output, stamp, products)
    print(summary(names, done))
    return print(f"wrote {args.output} ({plural(len(done), 'model')} evaluated on {images})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m keep_float.search", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="float32 ONNX file")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of calibration inputs with its manifest")
    parser.add_argument("--precision", choices=("int8", "fp16"), required=True, help="precision of the model")
    parser.add_argument("--output", type=Path, required=True, help="list to write (.txt); .json and .md are beside it")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
