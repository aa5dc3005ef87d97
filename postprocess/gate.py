"""Print the verdict of a metrics record and return it as the exit code.

    python -m postprocess.gate build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    a metrics record, which contains the verdict of `judge`
Prints   the verdict, and after a fail a command that may find the cause
Exits    0 pass; 1 fail; 3 not judged (0 with --allow_unjudged): there is no reference, or the reference is a published
         figure for a data set of another size

Source: the model zoo's rule that the accuracy is within 1% of the reference. Here 1% means one percentage point.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import hrnet
from hrnet.cli import UserError, command, first_few, plural
from hrnet.hints import in_call
from hrnet.io.records import FormatError, read_record
from hrnet.keep_float import KEPT, PRECISION

if TYPE_CHECKING:
    # Its import takes longer than the verdict
    from yacs.config import CfgNode

NOT_JUDGED = 3  # exit code
FEW_IMAGES = 1000  # with fewer images, one image is more than a tenth of a point
# make compare does not support parts: after a run in parts, next_step prints it with SHARDS=1 and this LIMIT
COMPARED = 1000
Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def wilson_interval(fraction: float, count: int) -> tuple[float, float]:
    """95% confidence interval (low, high) of a fraction measured on `count` images: Wilson's score interval, 1927."""
    square = Z_95**2 / count
    middle = (fraction + square / 2) / (1 + square)
    half = Z_95 / (1 + square) * math.sqrt(fraction * (1 - fraction) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def judge(
    metric: str, value: float, reference: Optional[dict[str, Any]], allowed: float, why_not: Optional[str] = None
) -> dict[str, Any]:
    """The keys of the metrics record with the verdict. `value`, `reference[metric]`: percent; `allowed`: the allowed
    drop in percentage points; `why_not`: the reason for not judging, required if there is no reference."""
    gate = {"metric": metric, "allowed_points": allowed}
    if reference is None or why_not:
        return {"gate": gate, "reference": reference, "drop": None, "verdict": "not judged", "why": why_not}
    lost = reference[metric] - value
    relative = 100 * lost / reference[metric] if reference[metric] else 0.0  # the reference of random weights may be 0
    drop = {"points": lost, "relative_percent": relative}
    verdict = "pass" if lost <= allowed + 1e-9 else "fail"  # 76.8 - 75.6 is 1.2000000000000028
    return {"gate": gate, "reference": reference, "drop": drop, "verdict": verdict}


def measured_reference(config: CfgNode) -> str:
    """The value of REFERENCE that measures a reference on the same images. The ONNX file of an ONNX classifier is its
    own reference, since it has no PyTorch network."""
    # Imported here, since it imports yacs
    from hrnet.schemas import ONNX

    return "REFERENCE=onnx" if config.MODEL.NAME == ONNX else "REFERENCE=torch"


def other_references(config: CfgNode) -> str:
    """Values of REFERENCE for a reference on the same images. A board usually lacks the files to measure one."""
    record = "REFERENCE=<metrics record of a run on the same images>"
    return record if hrnet.BOARD else f"{measured_reference(config)} or {record}"


def find_reference(
    metric: str, record: Optional[Path], config: CfgNode, images_sha256: str
) -> Optional[dict[str, Any]]:
    """The reference in percent: from the metrics record `record`, which must be for the same images and labels, else
    the config's published figure with its number of images, else None."""
    if record is None:
        published = config.REFERENCE[metric.upper()]
        source = config.REFERENCE.SOURCE or "the config"
        return {metric: published, "source": source, "images": config.REFERENCE.IMAGES} if published else None
    hint = f"measure it with the same DATASET and LIMIT, or give {measured_reference(config)}"
    if hrnet.BOARD:
        hint = "evaluate the images that it was measured on; or, to accept NOT JUDGED: make eval REFERENCE= GATE=none"
    content = read_record(record, "metrics", hint=hint)
    metrics = content.get("metrics")
    if content.get("images_sha256") != images_sha256:
        raise UserError("the reference was computed on other images", where=record, hint=hint)
    value = metrics.get(metric) if isinstance(metrics, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise FormatError(f"invalid {metric}", where=record, expected="percent", found=value, hint=hint)
    return {metric: value, "source": f"{content.get('tool', record)} on the same images"}


def verdict_line(record: dict[str, Any]) -> str:
    """The verdict of a metrics record in one line."""
    metric = record["gate"]["metric"]
    low, high = record["interval95"][metric]
    count = plural(record["images"], "image")
    count = f"{record['images']} of {plural(record['available'], 'image')}" if "available" in record else count
    measured = f"{record['name']} {metric} {record['metrics'][metric]:.2f}% on {count}"
    measured += f" (95% interval {low:.2f} to {high:.2f})"
    if record.get("calibration_in_eval"):
        measured += f", {record['calibration_in_eval']} of them calibrated the model"
    rejected = record.get("counts", {}).get("rejected", 0)
    if rejected:
        measured += f", {rejected} rejected"
        measured += f" (see {first_few(record['rejected_in'], 1)})" if "rejected_in" in record else ""
    warning = f"; warning: {record['warning']}" if "warning" in record else ""
    if record["verdict"] == "not judged":
        return f"NOT JUDGED: {measured}: {record['why']} (GATE=none accepts this){warning}"
    reference, drop = record["reference"], record["drop"]
    source = reference["source"]
    if reference.get("images") not in (None, record["images"] + rejected):
        source += f"; measured on {reference['images']} images, compared because of REFERENCE=config"
    few = record["verdict"] == "fail" and metric == "top1" and record["images"] < FEW_IMAGES
    if changed := reference.get("changed", 0):
        warning = f"; the Top-1 class differs from the reference's for {plural(changed, 'image')}{warning}"
    one = f"; one image is {100 / record['images']:.2g} points" if few else ""
    return (
        f"{record['verdict'].upper()}: {measured}, reference {reference[metric]:.2f}% ({source}): "
        f"{describe(drop['points'], record['gate']['allowed_points'])}{one}{warning}"
    )


def describe(points: float, allowed: float) -> str:
    """A drop and the allowed drop in words, or a gain if it is negative."""
    if round(points, 2) < 0:
        return f"a gain of {-points:.2f} points"
    small = 1e-9 < points < 0.005  # a fail with GATE=0
    return f"a drop of {f'{points:.1g}' if small else f'{abs(points):.2f}'} points, {allowed:g} allowed"


def next_step(record: dict[str, Any]) -> str:
    """A command of make after a fail."""
    model = f"MODEL={record['name']}"
    # The reference is the published figure, which was not computed with these labels: they may be wrong
    if "warning" in record and "images" in record["reference"]:
        return f"make show {model}    draws images with their labels and predictions"
    parts = record.get("evaluated", {}).get("parts")
    whole = " SHARDS=1" + (f" LIMIT={COMPARED}" if record["images"] > COMPARED else "") if parts else ""
    step = f"make compare {model}{whole}    shows the stage and the operators that lose accuracy"
    compiled = record.get("model", {})  # metadata of the compiled model
    if compiled.get(PRECISION) in ("fp16", "int8") and KEPT not in compiled:
        gate = record["gate"]["allowed_points"]
        step += f"; or make eval {model}{'' if gate == 1 else f' GATE={gate:g}'} KEEP_FLOAT=auto"
    return step


def run(metrics: Path, allow_unjudged: bool) -> int:
    """Print the verdict of a metrics record and return the exit code."""
    record = read_record(metrics, "metrics", hint="run make eval")
    if record.get("verdict") not in ("pass", "fail", "not judged"):
        raise FormatError("invalid verdict", where=metrics, found=record.get("verdict"), hint="run make eval")
    try:
        line = verdict_line(record)
        step = next_step(record) if record["verdict"] == "fail" and not hrnet.BOARD else ""  # a board cannot compare
    except (AttributeError, LookupError, TypeError, ValueError):
        raise FormatError("not a complete metrics record", where=metrics, hint="run make eval") from None
    print(line)
    if step:
        print(f"next: {in_call(step, os.environ)}")
    return {"pass": 0, "fail": 1, "not judged": 0 if allow_unjudged else NOT_JUDGED}[record["verdict"]]


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.gate", description=__doc__.splitlines()[0])
    parser.add_argument("metrics", type=Path, help="metrics record to read")
    parser.add_argument("--allow_unjudged", action="store_true", help="exit with 0 also if the run was not judged")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> int:
    return run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
