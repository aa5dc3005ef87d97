"""The table of make bench. Rows that an earlier make bench measured for other batch sizes stay in it if they are
comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from hrnet import markdown
from hrnet.cli import plural
from hrnet.io import stamp
from hrnet.io.compiled import CompiledModel
from hrnet.io.records import FormatError, from_json, read_record
from hrnet.io.runs import BenchRecord, BenchRow

HEAD = ("device images/s", "ms/image, mean", "batch ms, median", "batch ms, 99%", "files to files images/s")


def table(record: BenchRecord) -> str:
    """The record as Markdown text."""
    card = any(row.card_images_per_second for row in record.rows)
    gears = any(row.gear for row in record.rows)
    head = ["batch", *(["gear, height x width"] if gears else []), *HEAD, *(["card images/s"] if card else [])]
    rows = []
    for row in record.rows:
        times = (row.image_ms, row.batch_ms["median"], row.batch_ms["percentile(99%)"])
        cells = [str(row.batch), *(["x".join(map(str, row.gear or []))] if gears else [])]
        cells += [f"{row.device_images_per_second:.1f}", *(f"{time:.2f}" for time in times)]
        cells += [f"{row.images_per_second:.1f}"]
        rows.append(cells + ([f"{row.card_images_per_second:.1f}"] if card else []))
    where = f"{record.soc_version}, " if record.soc_version else ""
    start = "includes" if record.seconds_include_start else "does not include"
    facts = [", ".join(f"{key} {value}" for key, value in each.items()) for each in (record.machine, record.versions)]
    each = plural(record.loop, "batch", "batches")
    return (
        f"{record.tool}, {where}device {','.join(record.devices)}; {each} each; "
        f"the rate from files to files {start} the tool's start and model loading."
        f"\n\n{markdown.table(head, rows, '---:')}\n{'; '.join(facts)}.\n"
    )


def find_others(
    output: Path, page: Path, made_from: stamp.Stamp, models: Sequence[Path], compiled: CompiledModel
) -> Optional[BenchRecord]:
    """The record of an earlier sweep with those rows that can be in one table with the rows of `models`. They were
    measured with the same machine, tool, code and settings, for other batch sizes; their models have not changed since,
    and have the same origin as `compiled`, one of `models`. None if there are no such rows. Prints the removed rows."""
    try:
        content = read_record(stamp.stamp_path(output), "stamp")
        before = stamp.Stamp(content["settings"], content["files"], content["code_sha256"])
        record = BenchRecord.read(output)
    except (FormatError, KeyError, OSError):
        return None
    alike = before._replace(settings={**before.settings, "models": made_from.settings["models"]}) == made_from
    alike = alike and stamp.is_current(output, before, [page, output])
    rows = [row for row in record.rows if Path(row.model) not in models]
    kept = [row for row in rows if alike and _is_alike(row, compiled)]
    if removed := [row for row in rows if row not in kept]:
        what = "another model, tool, code, machine or LOOP"
        print(f"removed rows of an earlier make bench with {what}: {batches(removed)}")
    return replace(record, rows=kept) if kept else None


def batches(rows: Sequence[BenchRow]) -> str:
    return f"batch {', '.join(str(row.batch) for row in rows)}"


def _is_alike(row: BenchRow, compiled: CompiledModel) -> bool:
    """Whether the model of a row is unchanged, and was compiled as `compiled` except for the batch size."""
    try:
        found = CompiledModel.read(row.model)
    except (FormatError, OSError):
        return False
    return found.model_sha256 == row.model_sha256 and found.origin == compiled.origin


def read_others(content: Any, path: Path) -> Optional[BenchRecord]:
    """Read the result of `find_others` from `content`, the JSON that a killed run wrote to `path`."""
    found: Optional[BenchRecord] = None if content is None else from_json(BenchRecord, content, path, "bench record")
    return found


def with_others(record: BenchRecord, others: Optional[BenchRecord]) -> BenchRecord:
    """A new record with the rows of `others`, sorted by batch size, unless the version of the tool differs."""
    if others is None:
        return record
    if (others.tool, others.seconds_include_start) != (record.tool, record.seconds_include_start):
        print(f"removed rows that an earlier make bench measured with {others.tool}: {batches(others.rows)}")
        return record
    print(f"kept rows of an earlier make bench with the same model, tool, machine and LOOP: {batches(others.rows)}")
    return replace(record, rows=sorted([*others.rows, *record.rows], key=lambda row: row.batch))
