"""Files of other tools: ais_bench's `<dirname>_summary.json` and benchmark.x86_64's info file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hrnet.io.files import AnyPath, write_text
from hrnet.io.records import FormatError, read_json


def write_info(path: AnyPath, files: Iterable[tuple[str, int, int]]) -> int:
    """Write a line `index path width height` for each (path, width, height); return the number of lines."""
    lines = []
    for index, (file, width, height) in enumerate(files):
        if re.search(r"\s", file):
            raise FormatError("white space in a path of an info file", where=file)
        lines.append(f"{index} {file} {width} {height}\n")
    write_text(path, "".join(lines))
    return len(lines)


def read_summary(path: AnyPath) -> dict[str, Any]:
    """Read ais_bench's `<dirname>_summary.json`."""
    summary = read_json(path, "summary of ais_bench", hint="read its messages above, then rerun make infer")
    summary = summary if isinstance(summary, dict) else {}
    missing = [key for key in ("filesinfo", "NPU_compute_time", "throughput") if key not in summary]
    if missing:
        raise FormatError("not a summary of ais_bench", where=path, found=f"no {', '.join(missing)}")
    return summary


def outputs_by_stem(summary: Mapping[str, Any], path: AnyPath) -> dict[str, list[str]]:
    """{stem of an input: names of its outputs}, from the summary's `filesinfo`."""
    outputs: dict[str, list[str]] = {}
    for sample in summary["filesinfo"].values():
        if len(sample.get("infiles", [])) != 1 or not sample.get("outfiles"):
            raise FormatError("invalid entry", where=path, expected="one input and its outputs", found=sample)
        stem = os.path.basename(sample["infiles"][0]).split(".")[0]
        if stem in outputs:
            raise FormatError(f"{stem} was inferred twice", where=path)
        outputs[stem] = [os.path.basename(file) for file in sample["outfiles"]]
    return outputs
