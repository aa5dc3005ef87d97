"""Check whether compiled models may be served: the verdict of `make gate` must be about one of their files.

    python -m serve.verdict --metrics build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

`make serve` runs this script first, since compiling the models takes minutes. It checks only the metrics record;
serve.run also checks the compiled models.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import hrnet
from hrnet.cli import UserError, WorkFailed, command
from hrnet.io.compiled import CompiledModel
from hrnet.io.records import FormatError, read_record
from postprocess.gate import verdict_line

DEFAULT_GATE = 1.0  # points, of the Makefile
TOOLS = {"ascend": "ais_bench"}  # first word of `tool` in a metrics record; default: the name of the backend


def check_verdict(
    metrics: Optional[Path], models: Mapping[Path, CompiledModel], tool: str, flip: Optional[bool], allow_unjudged: bool
) -> str:
    """One line about the accuracy of the models. `metrics`: the metrics record; `tool`: the first word of the tool that
    must have computed the outputs; `flip`: for a pose model, whether the flip test is used.

    Raises WorkFailed for a verdict `fail`. Raises UserError in each of these cases; with `allow_unjudged` the line
    reports the case instead:

    - the verdict is missing, or is about none of `models`
    - the verdict is about outputs of another tool, or with another FLIP
    - another one of `models` was not compiled from the same file by the same command as the judged one
    """
    try:
        return _judged_line(metrics, models, tool, flip)
    except UserError as error:
        if not allow_unjudged:
            raise
        return f"NOT JUDGED: {error.what}"


def after_fail(points: float) -> str:
    """The commands after a verdict FAIL with a drop of `points`. If make's default GATE accepts this drop, the FAIL
    came from a smaller GATE."""
    if points <= DEFAULT_GATE:
        return f"to judge again with the default GATE={DEFAULT_GATE:g}: make gate"
    accept = f"to accept this drop: make gate GATE={math.ceil(100 * points) / 100:g}"
    return accept if hrnet.BOARD else f"make compare shows where accuracy is lost; {accept}"


def _judged_line(
    metrics: Optional[Path], models: Optional[Mapping[Path, CompiledModel]], tool: str, flip: Optional[bool]
) -> str:
    """As `check_verdict`. Without `models` only the record is checked."""
    hint = "run make eval; or, to serve it anyway, make serve GATE=none"
    if metrics is None or not metrics.is_file():
        raise UserError("accuracy was not evaluated", where=metrics, hint=hint)
    record = read_record(metrics, "metrics", hint="run make eval")
    try:
        judged, line = record["evaluated"]["model_sha256"], verdict_line(record)
        evaluated_by, verdict = str(record["tool"]), record["verdict"]
    except (LookupError, TypeError, ValueError):
        raise FormatError("not a complete metrics record", where=metrics, hint="run make eval") from None
    known = models or {}
    same = [path for path, compiled in known.items() if compiled.model_sha256 == judged]
    if models is not None and not same:
        found = f"SHA-256 {str(judged)[:12]}…"
        raise UserError("the verdict is about another compiled model", where=metrics, found=found, hint=hint)
    if verdict == "fail":
        hint = after_fail(record["drop"]["points"])
        raise WorkFailed(f"a model that failed its gate is not served: {line}", where=metrics, hint=hint)
    if verdict != "pass":
        raise UserError(f"no verdict: {record.get('why')}", where=metrics, hint=hint)
    if evaluated_by.split()[0] != tool:
        raise UserError("evaluated with another tool", where=metrics, expected=tool, found=evaluated_by, hint=hint)
    used = record.get("flip")
    if flip is not None and used != flip:
        seen = int(used) if isinstance(used, bool) else used
        raise UserError("evaluated with another FLIP", where=metrics, expected=int(flip), found=seen, hint=hint)
    for path, compiled in known.items():
        if compiled.model_sha256 != judged and compiled.origin != known[same[0]].origin:
            raise UserError(f"not compiled in the same way as {same[0]}, the judged model", where=path, hint=hint)
    return line


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.verdict", description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", type=Path, required=True, help="metrics record with the verdict")
    parser.add_argument("--backend", default="onnxruntime", help="backend that will serve the models (%(default)s)")
    parser.add_argument("--flip", choices=("0", "1"), help="pose: whether the flip test will be used")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    flip = None if args.flip is None else args.flip == "1"
    _judged_line(args.metrics, None, TOOLS.get(args.backend, args.backend), flip)


if __name__ == "__main__":
    sys.exit(main())
