"""The four charts of make family, from its record (kind `family`): Top-1 against multiply-adds, parameters, the
measured latency, and the measured latency beside published ones. make family writes them to files, make report to its
page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hrnet.io.family import LATENCIES
from make.charts import Point, Series

BATCH = "4"  # batch size of the chart with published latencies, as in PaddleClas' charts


class FamilyChart(NamedTuple):
    """What one chart shows."""

    name: str
    title: str
    note: str  # which points are hollow; for the chart `latency` also what was used to measure
    x: str
    series: list[Series]
    log: bool = False


def label(model: str) -> str:
    """A model's name in a chart, such as `SE W64 ssld`."""
    words = model.replace("hrnet_", "").split("_")
    return " ".join(word.upper() if word == "se" or (word[1:].isdigit() and word[0] == "w") else word for word in words)


def about(content: dict[str, Any]) -> str:
    """What was used to measure: tool, chip, precision, processor."""
    chip = f", {content['SOC']}" if content["BACKEND"] in ("ascend", "torch_aie") else ""
    machine = content["machine"]
    tool = content["rows"][0]["tool"]
    return f"{tool}{chip}, {content['PRECISION']}; {machine['processor']}, {machine['cores']} cores"


def charts_of(content: dict[str, Any]) -> Iterator[FamilyChart]:
    """The charts of a record, without the models that have no Top-1."""
    rows = [row for row in content["rows"] if row["top1"] is not None]
    note = "hollow: published Top-1" if any(row["reference"] for row in rows) else "Top-1 as measured"

    def series(name: str, *keys: str) -> Series:
        """A point for each model; `keys`: the path of the value in the model's row."""
        points = []
        for row in rows:
            value: Any = row
            for key in keys:
                value = value[key]
            points.append(Point(label(row["model"]), value, row["top1"], not row["reference"]))
        return Series(name, points)

    yield FamilyChart("gmacs", "Top-1 and GMACs", note, "GMACs", [series("", "gmacs")])
    yield FamilyChart("params", "Top-1 and parameters", note, "million parameters", [series("", "params_m")])
    batches = content["BATCHES"].split(",")
    here = about(content)
    timed = [series(f"batch {batch}", "batch_ms", batch) for batch in batches]
    yield FamilyChart("latency", "Top-1 and latency", f"{here}; {note}", "ms of a batch", timed)
    known = [str(batch) for batch in content["published"]["batches"]]
    common = [batch for batch in batches if batch in known]
    batch = BATCH if BATCH in common else (common or batches)[-1]
    beside = [series(f"here: {here}", "batch_ms", batch)]
    for name, field in LATENCIES.items() if common else ():
        found = [(label(row["model"]), row["published"]) for row in rows if (row["published"] or {}).get(field)]
        points = [Point(text, values[field][known.index(batch)], values["top1"]) for text, values in found]
        beside.append(Series(f"{name}, TensorRT, as published by PaddleClas", points))
    title = f"Latency at batch {batch}, beside published latencies"
    yield FamilyChart("published", title, note, f"ms of a batch of {batch}", beside, log=True)
