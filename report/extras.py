"""The rest of the page: rejected images, and, if they exist, the family's charts and training curves."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from hrnet.io.parts import Part
from make import charts
from make.charts import Curve
from report.overview import read_lines
from report.run import Run
from report.sources import Source, Sources

CHARTS = ("gmacs", "params", "latency", "published")  # of make family
LARGEST_CHART = 80_000  # bytes
LISTED = 200  # rejected images


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
        source = sources.record(path, "family")
        if source and run.config_name in [row["model"] for row in source.content["rows"]]:
            drawn = [chart for name in CHARTS if (chart := embed(path.with_name(f"{name}.svg")))]
            found.append({"source": source, "sweep": path.parent.name, "charts": drawn})
    return found[:2]


def embed(path: Path) -> str:
    """The address of a chart in a file; empty if there is none, or if it is too large for the page."""
    if not path.is_file() or path.stat().st_size > LARGEST_CHART:
        return ""
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def training(source: Source, path: Path) -> dict[str, Any]:
    """The curves of a training. `path`: metrics.jsonl, one line for each finished epoch."""
    lines = read_lines(path)
    epochs = [line["epoch"] for line in lines]
    shown = []
    for title, names in (("loss", {"training": "train_loss", "validation": "loss"}), ("Top-1, %", {"": "top1"})):
        series = [
            Curve(
                name, [e for e, line in zip(epochs, lines) if key in line], [line[key] for line in lines if key in line]
            )
            for name, key in names.items()
        ]
        if any(len(curve.x) for curve in series):
            shown.append(charts.curves([curve for curve in series if len(curve.x)], "epoch", title))
    return {"source": source, "epochs": len(lines), "last": lines[-1] if lines else {}, "charts": shown}


def section(run: Run, sources: Sources, own: dict[str, Any]) -> dict[str, Any]:
    """What the template needs; adds `rejected` and `training` to `own`."""
    trained = run.build / "train/metrics.jsonl"
    source = sources.file(trained)
    curves = training(source, trained) if source else None
    dropped = rejected(run, sources)
    own["rejected"] = {"known": dropped["known"], "images": dict(dropped["listed"])}
    own["training"] = {"epochs": curves["epochs"], "last": curves["last"]} if curves else None
    return {"rejected": dropped, "family": family(run, sources), "training": curves}
