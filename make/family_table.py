"""The rows of make family as Markdown: a table of measured figures, and one of published latencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from hrnet import markdown
from hrnet.config import config_path, load_config
from hrnet.io.family import LATENCIES, FamilyRow, Published, PublishedModel
from hrnet.schemas import CLASSIFICATION


@dataclass(frozen=True)
class Entry:
    """A row of the table: measured and published figures of a model."""

    row: FamilyRow
    top1: Optional[float]  # percent; measured, or else the config's reference
    top5: Optional[float]
    reference: str  # source of top1 and top5; empty: measured here
    published: Optional[PublishedModel]


def entry(row: FamilyRow, published: dict[str, PublishedModel]) -> Entry:
    """A row with the accuracy that the table shows."""
    reference = load_config(config_path(row.model), CLASSIFICATION).REFERENCE
    if row.top1 is not None:
        return Entry(row, row.top1, row.top5, "", published.get(row.model))
    return Entry(
        row, reference.TOP1 or None, reference.TOP5 or None, reference.SOURCE or "none", published.get(row.model)
    )


def table(entries: list[Entry], batches: list[str], about: str) -> str:
    """The rows as Markdown: `about` (what was used to measure), the table, notes. `batches`: batch sizes with a
    column."""

    def percent(value: Optional[float], each: Entry) -> str:
        return "" if value is None else f"{value:.2f}{'*' if each.reference else ''}"

    head = ["model", "Top-1 %", "Top-5 %", "GMACs", "M parameters", *(f"ms at batch {batch}" for batch in batches)]
    rows = [
        [
            each.row.model + ("" if each.row.weights_sha256 else " †"),
            *(percent(value, each) for value in (each.top1, each.top5)),
            *(f"{each.row.gmacs:.4g}", f"{each.row.params_m:.2f}"),
            *(f"{each.row.batch_ms[batch]:.2f}" for batch in batches),
        ]
        for each in entries
    ]
    notes = []
    if any(each.reference for each in entries):
        notes.append("\\* The published figure of the config's REFERENCE, not measured here.")
    if any(not each.row.weights_sha256 for each in entries):
        notes.append("† Random weights from a fixed seed, for speed only: weights/MODEL.pth is missing.")
    if images := sorted({each.row.images for each in entries if not each.reference}):
        which = "Other accuracies" if any(each.reference for each in entries) else "Accuracies"
        notes.append(f"{which} were measured on {', '.join(map(str, images))} images.")
    notes.append("GMACs are multiply-adds of one image; ms is the median time of a batch, without file I/O.")
    return f"{about}\n\n{markdown.table(head, rows, '---:')}\n" + "".join(f"{note}  \n" for note in notes)


def published_table(entries: list[Entry], tables: Published) -> str:
    """The published latencies of the same models, as Markdown; empty if there are none."""
    head = ["model", "Top-1 %", *(f"{name}, batch {batch}" for name in LATENCIES for batch in tables.batches)]
    rows = []
    for each in entries:
        if each.published:
            times = [getattr(each.published, field) or [None] * len(tables.batches) for field in LATENCIES.values()]
            cells = ["" if value is None else f"{value:.2f}" for column in times for value in column]
            rows.append([each.row.model, f"{each.published.top1:.1f}", *cells])
    if not rows:
        return ""
    return f"\nMilliseconds of a batch in [{tables.source}]({tables.url}):\n\n{markdown.table(head, rows, '---:')}"
