"""A sweep's record as a page of markdown."""

from __future__ import annotations

from hrnet.io.runs import BenchRecord

HEAD = ("device img/s", "ms/image", "batch ms, median", "batch ms, 99%", "files to files img/s")


def table(record: BenchRecord) -> str:
    """The record as a page of markdown."""
    card = any(row.card_images_per_second for row in record.rows)
    gears = any(row.gear for row in record.rows)
    head = ["batch", *(["gear"] if gears else []), *HEAD, *(["card img/s"] if card else [])]
    lines = [f"| {' | '.join(head)} |", "|" + " ---: |" * len(head)]
    for row in record.rows:
        times = (row.image_ms, row.batch_ms["median"], row.batch_ms["percentile(99%)"])
        cells = [str(row.batch), *(["x".join(map(str, row.gear or []))] if gears else [])]
        cells += [f"{row.device_images_per_second:.1f}", *(f"{time:.2f}" for time in times)]
        cells += [f"{row.images_per_second:.1f}"]
        cells += [f"{row.card_images_per_second:.1f}"] if card else []
        lines.append(f"| {' | '.join(cells)} |")
    machine = ", ".join(f"{key} {value}" for key, value in record.machine.items())
    versions = ", ".join(f"{key} {value}" for key, value in record.versions.items())
    where = f"{record.soc_version}, " if record.soc_version else ""
    devices = f"device {','.join(record.devices)}"
    seconds = "with the tool's start and the model's loading" if record.start_in_seconds else "the model loaded before"
    return (
        f"{record.tool}, {where}{devices}; {record.loop} batches each; files to files {seconds}.\n\n"
        + "\n".join(lines)
        + f"\n\n{machine}; {versions}.\n"
    )
