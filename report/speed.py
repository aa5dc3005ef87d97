"""Speed: the records of make bench (sweeps over batch sizes or gears), published figures, and the time of each step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

from hrnet.code import ROOT
from hrnet.io.parts import Part
from hrnet.io.records import read_record
from hrnet.io.runs import BenchRecord, RunRecord
from make import charts
from make.charts import Curve
from report.run import Run
from report.sources import Source, Sources

PUBLISHED = ROOT / "data/modelzoo_speed.json"
STEPS = ("read", "infer", "write")


def sweep(record: Source, published: list[dict[str, Any]]) -> dict[str, Any]:
    """A record of make bench with its charts. `published`: entries of PUBLISHED for the model, with images/s by batch
    size."""
    rows: list[dict[str, Any]] = record.content["rows"]
    gears = any(row.get("gear") for row in rows)
    names = ["x".join(map(str, row["gear"])) if row.get("gear") else str(row["batch"]) for row in rows]
    rates = [row["device_images_per_second"] for row in rows]
    if gears:
        drawn = [charts.bars(names, rates, "images/s, device alone")]
        drawn.append(charts.bars(names, [row["batch_ms"]["median"] for row in rows], "median latency, ms"))
        return {"source": record, "names": names, "gears": True, "charts": drawn}
    sizes = [row["batch"] for row in rows]
    lines = [Curve("device alone", sizes, rates)]
    lines.append(Curve("files to files", sizes, [row["images_per_second"] for row in rows]))
    for other in published:
        known = {int(batch): rate for batch, rate in other["images_per_second"].items()}
        lines.append(Curve(f"{other['name']} (published)", list(known), list(known.values()), grey=True))
    ticks = sorted({size for line in lines for size in line.x})
    latencies = [("median", "median"), ("99%", "percentile(99%)")]
    late = [Curve(name, sizes, [row["batch_ms"][key] for row in rows]) for name, key in latencies]
    log = len(ticks) > 1
    drawn = [charts.curves(lines, "batch size", "images/s", ticks=ticks, log=log)]
    drawn.append(charts.curves(late, "batch size", "latency of a batch, ms", ticks=sizes, log=len(sizes) > 1))
    return {"source": record, "names": names, "gears": False, "charts": drawn}


def chain(run: Run, sources: Sources) -> Optional[dict[str, Any]]:
    """Milliseconds per image in each step after preprocessing, from the run records, or else from the records of parts;
    None if both are missing, or contain no times."""
    records = [run.run_record]
    if run.metrics.content.get("flip"):
        flipped = run.run_record.parent
        records.append(flipped.with_name(f"{flipped.name}-flip") / run.run_record.name)
    found = [sources.typed(path, RunRecord.read, "run") for path in records]
    runs = [each for each in found if each]
    evaluated = run.metrics.content["evaluated"]
    if len(runs) == len(records) and runs[0].sha256 == evaluated.get("run_sha256"):
        steps = {step: sum(milliseconds(each.content, step) for each in runs) for step in STEPS}
        if not any(steps.values()):  # the tool reports only the total
            steps = {"infer": sum(milliseconds(each.content, "total") for each in runs)}
        used = runs
    else:
        parts = run.path.with_suffix("") / "parts"
        used = [
            source
            for source in (sources.typed(path, Part.read, "part") for path in sorted(parts.glob("*-of-*[0-9].json")))
            if source
        ]
        images = sum(each.content["inferred"] for each in used)
        if not images:
            return None
        steps = {"infer": 1000 * sum(each.content["seconds"]["infer"] for each in used) / images}
    parts_of_chain = [(name, value) for name, value in steps.items() if value]
    decoding = run.metrics.content.get("decode_milliseconds_an_image") or {}
    parts_of_chain += [(f"decode: {name}", value) for name, value in decoding.items()]
    if not parts_of_chain:
        return None
    return {"sources": used[:3], "steps": dict(parts_of_chain), "total": sum(value for _, value in parts_of_chain)}


def milliseconds(content: dict[str, Any], step: str) -> float:
    """Milliseconds per image in a step of a run record; 0 if the tool does not report the step, or if the run computed
    no image."""
    count: int = content["images"] - content["kept"]
    return 1000 * (content["seconds"].get(step) or 0.0) / count if count else 0.0


def section(run: Run, sources: Sources, own: dict[str, Any]) -> dict[str, Any]:
    """The values for the template; adds `chain` to `own`."""
    published = read_record(PUBLISHED, "published_speed")["models"].get(run.config_name, [])
    benches = [
        source
        for path in sorted((run.build / "bench").glob("*.json"))
        if (source := sources.typed(path, BenchRecord.read, "bench"))
    ]
    steps = chain(run, sources)
    own["chain"] = {"steps": steps["steps"], "total": steps["total"]} if steps else None
    return {
        "known": sources.record(Path(os.path.relpath(PUBLISHED)), "published_speed") if published else None,
        "published": published,
        "sweeps": [sweep(bench, published) for bench in benches],
        "chain": steps,
        "chain_chart": charts.stacked(list(steps["steps"].items()), "milliseconds for each image") if steps else "",
    }
