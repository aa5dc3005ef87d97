"""Find products that were made with other values of GATE, MAX_REJECTED and BATCHES, which are not remembered, or from a
data set that has changed since; standard library only."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Optional

from make.bundle_help import WARNING, doubt, warning
from make.call import Options

JUDGING = {"eval", "gate", "merge", "qps"}  # targets that compare with GATE and MAX_REJECTED, given or default


def state(path: str) -> Optional[list[int]]:
    """Modification time in ns and size in bytes (0 for a directory), as in hrnet/io/stamp.py; None if the file does not
    exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size]


def changed(options: Options, names: dict[str, str]) -> dict[str, str]:
    """{variable for make: its value}. Each variable is a prerequisite of products. Its value is `run-again`, a target
    that is never up to date, if these products must be made again, else ""."""
    now = {
        "DATA_CHANGED": data_changed(preprocessed(options, names)) or too_many_rejected(options, names),
        "CALIB_CHANGED": data_changed(options.folder / "int8/inputs/settings.json"),
        "METRICS_CHANGED": metrics_changed(options, names),
        "BENCH_CHANGED": "bench" in options.goals and not timed(options, names),
        "QPS_CHANGED": "qps" in options.goals and not in_one_table(options, names),
        "BUNDLE_CHANGED": "bundle" in options.goals and bundle_changed(options, names),
    }
    return {name: "run-again" if value else "" for name, value in now.items()}


def _read(path: Path, *keys: str) -> Any:
    """A value in a record; None if the record or a key is missing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            content = content[key]
        return content
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _applies(options: Options, name: str) -> bool:
    """Whether this call uses the value of a variable that is not remembered. `make show` without GATE does not."""
    return name in options.given or bool(options.goals & JUDGING)


def metrics_changed(options: Options, names: dict[str, str]) -> bool:
    """Whether metrics were judged with another GATE, or have lost the predictions beside them."""
    sizes = options["BATCHES"].split(",") if "qps" in options.goals else [options["BATCH"]]
    tags = [names["TAG"].replace(f"-bs{options['BATCH']}-", f"-bs{size}-") for size in sizes]
    folder, gate = options.folder / "eval" / names["NAME"], float(options["GATE"].replace("none", "1"))
    found = {folder / f"{tag}{names['NOFLIP']}" for tag in tags}
    if any(os.path.exists(f"{path}.json") and not (path / "predictions.jsonl").exists() for path in found):
        return True
    records = [_read(Path(f"{path}.json"), "gate", "allowed_points") for path in found]
    return _applies(options, "GATE") and any(record not in (None, gate) for record in records)


def _batches(table: Path) -> set[str]:
    """The batch sizes in the table of make bench or make qps; none if the table is damaged."""
    rows = _read(table, "rows")
    return {str(row.get("batch")) for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()


def timed(options: Options, names: dict[str, str]) -> bool:
    """Whether the table of make bench has rows for all BATCHES, or does not exist."""
    table = options.folder / "bench" / f"{names['BENCH']}.json"
    return not table.exists() or set(options["BATCHES"].split(",")) <= _batches(table)


def in_one_table(options: Options, names: dict[str, str]) -> bool:
    """Whether the table of make qps has rows for BATCHES and no others, or does not exist."""
    table = options.folder / "eval" / names["NAME"] / f"{names['QPS']}.json"
    return not table.exists() or set(options["BATCHES"].split(",")) == _batches(table)


def too_many_rejected(options: Options, names: dict[str, str]) -> bool:
    """Whether an earlier run with a larger MAX_REJECTED rejected more images than are allowed now."""
    if not _applies(options, "MAX_REJECTED") and "preprocess" not in options.goals:
        return False
    if names["SHARDED"]:
        path = options.folder / "eval" / names["NAME"] / f"{names['TAG']}{names['NOFLIP']}.json"
        rejected = _read(path, "counts", "rejected") or 0
    else:
        rejected = len(_read(options.folder / "prep" / names["SET"] / "rejected.json", "images") or ())
    return rejected > int(options["MAX_REJECTED"])


def bundle_changed(options: Options, names: dict[str, str]) -> bool:
    """Whether a bundle was packed with other values of GATE or MAX_REJECTED, which its bundle.mk contains, or the
    warning in its README does not match the verdict."""
    path = options.folder / "bundle" / f"{options['MODEL']}-{names['TAG']}-{names['PACKED']}.tar"
    if not path.is_file():
        return False
    # Imported here, since most calls do not need it
    import tarfile

    metrics = options.folder / "eval" / names["NAME"] / f"{names['TAG']}{names['NOFLIP']}.json"
    compiled = f"bs{options['BATCH']}-{options['INPUT']}-{names['TARGET']}{names['EXT']}"
    model = Path(options["OM"] or options.folder / "om" / compiled)
    wanted = warning(doubt(metrics, _read(Path(f"{model}.json"), "model_sha256")))
    try:
        with tarfile.open(path, "r:") as archive:
            while member := archive.next():
                name = member.name.partition("/")[2]
                file = archive.extractfile(member) if name in ("README.md", "bundle.mk") else None
                text = file.read().decode() if file else ""
                if name == "README.md" and re.findall(WARNING, text) != [*filter(None, [wanted])]:
                    return True
                if name == "bundle.mk":
                    lines = text.splitlines()
                    return not all(f"{name} ?= {options[name]}" in lines for name in ("GATE", "MAX_REJECTED"))
    except (OSError, tarfile.TarError):
        pass
    return False


def preprocessed(options: Options, names: dict[str, str]) -> Path:
    """The record with the state of the data set when it was last preprocessed."""
    if names["SHARDED"]:
        return options.folder / "eval" / names["NAME"] / f"{names['TAG']}{names['NOFLIP']}" / "parts/data.json"
    return options.folder / "prep" / names["SET"] / "settings.json"


def data_changed(record: Path) -> bool:
    """Whether the data set's directories or lists have changed since a record was written."""
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["data"]
        return any(state(path) != known for path, known in recorded.items())
    except (FileNotFoundError, NotADirectoryError):
        return False  # not preprocessed yet: make runs the stage anyway
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
