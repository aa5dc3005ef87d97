"""The rest of the page: rejected images, and, if they exist, the family's charts and training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from hrnet.io.files import sha256_file
from hrnet.io.parts import Part
from hrnet.io.records import read_record
from make import charts
from make.charts import Curve
from make.family_charts import about, charts_of
from report.overview import read_lines
from report.run import Run
from report.sources import Sources

LISTED = 200  # rejected images
WEIGHTS = ("model_best.pth.tar", "*.pth")  # files of a training run: classification, pose
FAMILY_RECORDS = 2  # that are shown


def rejected(run: Run, sources: Sources) -> dict[str, Any]:
    """The rejected images with their reasons, from preprocessing or from the parts' records."""
    reasons: dict[str, str] = {}
    used = []
    whole = sources.record(run.inputs / "rejected.json", "rejected")
    if whole:
        reasons, used = whole.content["images"], [whole]
    else:
        for path in sorted((run.path.with_suffix("") / "parts").glob("*-of-*[0-9].json")):
            source = sources.typed(path, Part.read, "part")
            if source and source.content.get("reasons"):
                reasons.update(source.content["reasons"])
                used.append(source)
    return {"listed": list(reasons.items())[:LISTED], "known": len(reasons), "sources": used[:3]}


def family(run: Run, sources: Sources) -> list[dict[str, Any]]:
    """The records of make family that contain this model, with their charts."""
    found = []
    for path in sorted(run.build.parent.glob("family/*/family.json")):
        content = read_record(path, "family")
        if run.config_name in [row["model"] for row in content["rows"]] and (source := sources.record(path, "family")):
            drawn = [(each, charts.scatter(each.x, each.series, log=each.log)) for each in charts_of(content)]
            found.append({"source": source, "about": about(content), "charts": drawn})
    return found[:FAMILY_RECORDS]


def training(run: Run, sources: Sources, folder: Path) -> Optional[dict[str, Any]]:
    """The curves of the model's training, its best and last epoch, and whether this run evaluated its weights; None if
    it was not trained."""
    source = sources.file(folder / "metrics.jsonl")  # one line for each finished epoch
    if not source:
        return None
    lines = read_lines(Path(source.path))
    shown = []
    for title, names in (("loss", {"training": "train_loss", "validation": "loss"}), ("Top-1, %", {"": "top1"})):
        found = [(name, [line for line in lines if key in line], key) for name, key in names.items()]
        series = [
            Curve(name, [line["epoch"] for line in there], [line[key] for line in there])
            for name, there, key in found
            if there
        ]
        if series:
            shown.append(charts.curves(series, "epoch", title))
    judged = [line for line in lines if "top1" in line]
    best = max(judged, key=lambda line: line["top1"]) if judged else None  # the first one if several are equal
    weights = next((path for name in WEIGHTS for path in sorted(folder.glob(name))), None)
    used = run.metrics.content["model"].get("weights_sha256")
    evaluated = None if not (weights and used) else sha256_file(weights) == used
    rows = {name: line for name, line in (("best", best), ("last", lines[-1] if lines else None)) if line}
    values = {"epochs": len(lines), "planned": run.config.TRAIN.END_EPOCH, "rows": rows}
    return {"source": source, "charts": shown, "weights": weights, "evaluated": evaluated, "values": values}


def section(run: Run, sources: Sources, own: dict[str, Any]) -> dict[str, Any]:
    """The values for the template; adds `rejected` and `training` to `own`."""
    curves = training(run, sources, run.build / "train")
    dropped = rejected(run, sources)
    content = run.metrics.content
    left_out = content.get("available", 0) - content["images"] - content["counts"]["rejected"]
    own["rejected"] = {"known": dropped["known"], "images": dict(dropped["listed"]), "left_out": max(0, left_out)}
    own["training"] = curves["values"] if curves else None
    return {"rejected": dropped, "family": family(run, sources), "training": curves}
