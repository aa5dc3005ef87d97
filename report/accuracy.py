"""Accuracy of a run, compared with torch, ONNX, the published figure and other runs of the model; where it is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from hrnet.io.records import read_json
from make import charts
from report.changes import count_changed, results
from report.run import Run
from report.sources import Source, Sources

CLASS_FIGURES = ("top1", "top2", "top3", "top4", "top5")
POSE_FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
WORST_OPERATORS, MAX_RUNS = 10, 40  # that are listed


def verdict_chart(run: Run) -> str:
    """A chart of the accuracy with its interval, the reference and, if they were compared, the lowest accuracy that
    passes, as SVG."""
    content, metric = run.metrics.content, run.metric
    value = content["metrics"][metric]
    rows = [charts.Interval("this run", value, *content["interval95"][metric])]
    reference, limit = content["reference"], None
    if reference:
        known = reference[metric]
        rows.append(charts.Interval("reference", known, known, known))
        limit = known - content["gate"]["allowed_points"] if content["drop"] else None
    return charts.intervals(rows, "AP, %" if run.pose else "Top-1, %", limit)


def published(run: Run) -> Optional[dict[str, Any]]:
    """The published figures in the config, or None."""
    known = run.config.REFERENCE
    names = [name for name in ("TOP1", "TOP5", "AP") if known.get(name)]
    if not names:
        return None
    figures = {name if name == "AP" else name.lower(): known[name] for name in names}
    return {**figures, "source": known.SOURCE or "the config", "images": known.IMAGES}


def reference_record(run: Run, sources: Sources, ending: str) -> Optional[Source]:
    """The accuracy of torch on the same images, or with `ending` -onnx that of the ONNX file; None if it was not
    computed."""
    path = run.build / "reference" / f"{run.set_name}{run.noflip}{ending}.json"
    found = sources.record(path, "metrics")
    same = found is not None and found.content.get("images_sha256") == run.metrics.content["images_sha256"]
    return found if same else None


def other_runs(run: Run, sources: Sources) -> list[dict[str, Any]]:
    """The evaluated runs of the model, this one first, at most MAX_RUNS. `changed`: the number of images with another
    result than in this run; None if the images differ or the predictions are missing."""
    mine = run.metrics.content
    before = results(Path(run.predictions.path), run.pose)
    rows = []
    for path in sorted((run.build / "eval").glob("*/*.json"), key=lambda each: (each != run.path, each))[:MAX_RUNS]:
        if path.name.startswith(".") or read_json(path, "record").get("kind") != "metrics":
            continue
        record = sources.record(path, "metrics")
        assert record is not None
        row: dict[str, Any] = {"source": record, "set": path.parent.name, "tag": path.stem, "own": path == run.path}
        predictions = path.with_suffix("") / "predictions.jsonl"
        same = record.content.get("images_sha256") == mine["images_sha256"] and predictions.is_file()
        row["changed"] = count_changed(before, predictions, run.pose) if same else None
        rows.append(row)
    return rows


def worst_operators(record: Source) -> list[int]:
    """Indices of at most WORST_OPERATORS operators: first those that overflow although their inputs do not, then
    those with the largest own error, or the largest error if own errors were not measured. The error of an operator
    that overflows may be unknown."""
    found: list[dict[str, Any]] = record.content["operators"]
    known = []
    for index, each in enumerate(found):
        own = "own_" if each.get("own_error") is not None else ""
        error, overflow = each.get(f"{own}error") or 0.0, each.get(f"{own}overflow") or 0
        if error or overflow:
            known.append((not overflow, -error, index))
    return [index for *_, index in sorted(known)[:WORST_OPERATORS]]


def class_figures(metrics: dict[str, Any]) -> tuple[str, ...]:
    """Top-1 to Top-5, without those that are 100% by definition, such as Top-3 of three classes."""
    return CLASS_FIGURES[: max(1, metrics.get("classes", len(CLASS_FIGURES) + 1) - 1)]


def reference_to_compute(run: Run) -> tuple[str, str]:
    """The reference that can be computed on the same images: its name, and the value of REFERENCE."""
    if run.pose or run.metrics.content["model"].get("weights_sha256"):
        return "PyTorch", "torch"
    return "the ONNX file", "onnx"


def next_precision(run: Run) -> str:
    """The command that evaluates other precisions: all, or float16 if the model cannot be quantized."""
    if not run.int8:
        return run.make("eval", PRECISION="fp16")
    return run.make("precision", **({"FLIP": "0"} if run.noflip else {}))


def section(run: Run, sources: Sources, own: dict[str, Any]) -> dict[str, Any]:
    """The values for the template; adds `published` and `changed` to `own`."""
    figures = POSE_FIGURES if run.pose else class_figures(run.metrics.content)
    folder = run.build / "compare" / run.set_name / run.tag
    operators = sources.record(folder / "operators.json", "operators")
    rows = other_runs(run, sources)
    own["published"] = published(run)
    own["changed"] = [row["changed"] for row in rows]
    return {
        "figures": [name for name in figures if name in run.metrics.content["metrics"]],
        "verdict_chart": verdict_chart(run),
        "torch": reference_record(run, sources, ""),
        "onnx": reference_record(run, sources, "-onnx"),
        "runs": rows,
        "stages": sources.record(folder / "stages.json", "comparison"),
        "operators": operators,
        "worst_operators": worst_operators(operators) if operators else [],
        "keep_float": sources.records(run.build / "keep_float", "*.json", "keep_float"),
        "precision": sources.record(run.build / "precision" / f"{run.set_name}.json", "precision"),
        "no_precision": next_precision(run),
        "reference": reference_to_compute(run),
    }
