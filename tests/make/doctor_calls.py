"""Calls of make/doctor.py, and fakes of the tools that it looks for."""

from __future__ import annotations

from pathlib import Path

from make import doctor
from make.options import resolve_backend
from tests.make.option_calls import DEFAULTS


def tool(place: Path, name: str, script: str = "") -> None:
    (place / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / "bin" / name).chmod(0o755)


def call(make: str = "4.3", inputs: str = "prep", **values: str) -> int:
    """The exit code of make doctor for MODEL=m, with the given values of make's options."""
    given = {**DEFAULTS, "MODEL": "m", "CFG": "m.yaml", "ONNX": "m.onnx", "TS": "m.ts", "WEIGHTS": "weights/m.pth"}
    given.update({"DATASET": "data", "BATCH": "16", "BATCHES": "1", **values})
    asked = given["BACKEND"]
    given["BACKEND"], _ = resolve_backend(asked, given["OM"])
    options = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    return doctor.main(["--backend_asked", asked, "--make", make, "--inputs", inputs, *options])


def report(out: str) -> dict[str, str]:
    return {line[:14].strip(): line[15:] for line in out.splitlines()}
