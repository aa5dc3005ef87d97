"""Texts of a bundle: what `make help` prints on a board, with the targets and variables that work there, and a warning
about a model that did not pass its gate. Uses only the standard library, since make/options.py imports it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

TARGETS = ("infer", "eval", "gate", "predict", "serve", "doctor", "clean", "help")
STAGE_TARGETS = ("preprocess", "part", "merge", "show")  # with the board's own images
VARIABLES = {
    *("BUILD", "PYTHON", "OM", "DEVICE", "BACKEND", "AIS_PYTHON", "GATE", "REFERENCE", "MAX_REJECTED", "IMAGES"),
    *("HOST", "PORT", "CLEAN"),
}
INPUTS_VARIABLES, STAGE_VARIABLES, POSE_VARIABLES = {"PREP"}, {"DATASET", "LIMIT", "SHARDS", "SHARD", "KEEP"}, {"FLIP"}
WARNING = r"\*\*Warning: this model .*\*\*"
TEXTS = {  # variable -> its text, where that of the Makefile is not correct on a board
    "BACKEND": ".om file: ascend; .onnx file: onnxruntime or openvino",
    "OM": "the compiled model",
    "PREP": "the inputs",
    "REFERENCE": 'metrics record; or "config": the published accuracy',
}

# in a bundle with inputs, where only serve uses several devices
INPUTS_TEXTS = {"DEVICE": "device id; for make serve also several, such as 0,1"}


def target_names(preprocesses: bool) -> tuple[str, ...]:
    """The targets of a bundle. `preprocesses`: the board preprocesses its own images."""
    return TARGETS + (STAGE_TARGETS if preprocesses else ())


def variables(preprocesses: bool, pose: bool) -> set[str]:
    """The variables of a bundle."""
    return VARIABLES | (STAGE_VARIABLES if preprocesses else INPUTS_VARIABLES) | (POSE_VARIABLES if pose else set())


def help_text(sources: list[Path], settings: Mapping[str, str], preprocesses: bool, pose: bool) -> str:
    """The text, in the format of the Makefile's `help`. `sources`: the Makefile and project.mk; `settings`: values in
    bundle.mk."""
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    lines = ["usage: make TARGET... [VARIABLE=value ...]", ""]
    found = dict(re.findall(r"^([a-z-]+):[^#\n]*## (.*)", text, re.MULTILINE))
    lines += [f"  {name:14}{found[name]}" for name in found if name in target_names(preprocesses)] + [""]
    texts = TEXTS if preprocesses else {**TEXTS, **INPUTS_TEXTS}
    rows = [
        (name, settings.get(name, default.strip()), texts.get(name, what))
        for name, default, what in re.findall(r"^([A-Z_]+) +\?= *([^#\n]*)# *(.*)", text, re.MULTILINE)
        if name in variables(preprocesses, pose)
    ]
    width = max([24, *(len(value) for _, value, _ in rows)]) + 2
    lines += [f"  {name:14}{value:{width}}{what}".rstrip() for name, value, what in rows]
    return "\n".join(lines) + "\n"


NOT_EVALUATED = "was not evaluated where it was packed"


def doubt(metrics: Optional[Path], model_sha256: object) -> str:
    """The end of a sentence that begins with `this model`: why a compiled model should not be trusted. Empty if its
    verdict in `metrics`, the host's metrics record, is a pass."""
    try:
        record = json.loads(metrics.read_text(encoding="utf-8")) if metrics else {}
        verdict = record["verdict"] if record["evaluated"]["model_sha256"] == model_sha256 else "of another model"
        if verdict == "fail":
            lost, allowed = record["drop"]["points"], record["gate"]["allowed_points"]
            return f"failed its gate where it was packed: a drop of {lost:.2f} points, {allowed:g} allowed"
        return {"pass": "", "not judged": f"was not judged where it was packed: {record.get('why')}"}.get(
            verdict, NOT_EVALUATED
        )
    except (OSError, ValueError, LookupError, TypeError):
        return NOT_EVALUATED


def warning(reason: str) -> str:
    """The line in the bundle's README, which WARNING matches; empty without a reason."""
    return f"**Warning: this model {reason}.**" if reason else ""
