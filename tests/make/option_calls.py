"""Calls of make/options.py, as make calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from make import options
from make.options import OptionError, Options

ONNX = b"\x08\x07\x12\x00"  # the start of an ONNX file
DEFAULTS = {
    "CFG": "",
    "MODEL": "net",
    "BUILD": "build",
    "PYTHON": sys.executable,
    "WEIGHTS": "weights/net.pth",
    "DATASET": "",
    "ONNX": "build/net/model.onnx",
    "TS": "build/net/model.ts",
    "OM": "",
    "PREP": "",
    "BATCH": "",
    "BATCHES": "",
    "LOOP": "20",
    "INPUT": "float32",
    "PRECISION": "default",
    "KEEP_FLOAT": "",
    "CALIB": "64",
    "SOC": "Ascend310P3",
    "DEVICE": "0",
    "BACKEND": "auto",
    "TUNE": "none",
    "ATC_FLAGS": "",
    "AIS_PYTHON": "python3",
    "GATE": "1",
    "REFERENCE": "",
    "LIMIT": "0",
    "MAX_REJECTED": "0",
    "FLIP": "1",
    "SHARDS": "",
    "SHARD": "",
    "KEEP": "",
    "BUNDLE": "inputs",
    "MODELS": "",
    "IMAGES": "",
    "BASE": "",
    "HOST": "",
    "PORT": "",
}


def add_atc(checkout: Path) -> None:
    (checkout / "bin/atc").write_text("#!/bin/sh\n")
    (checkout / "bin/atc").chmod(0o755)


def resolve(goals: str = "eval", dry_run: bool = False, unknown: str = "", **given: str) -> dict[str, str]:
    """The variables that make/options.py returns to make for these values on its command line."""
    settings = Path(given.get("BUILD", "build"), given.get("MODEL", "net"), "settings")
    remembered = dict(path.read_text().rstrip("\n").split(" ?= ") for path in settings.glob("*.mk"))
    build, model = given.get("BUILD", "build"), given.get("MODEL", "net")
    named = {"WEIGHTS": f"weights/{model}.pth"}
    named.update({name: f"{build}/{model}/model.{name.lower()}" for name in ("ONNX", "TS")})
    values = {**DEFAULTS, **named, **remembered, **given}
    return options.resolve(Options(values, set(given), set(goals.split())), set(given) | set(unknown.split()), dry_run)


def rejected(goals: str = "eval", unknown: str = "", **given: str) -> str:
    """The error for these values; checks that it is one line and that no value is remembered."""
    with pytest.raises(OptionError) as caught:
        resolve(goals, unknown=unknown, **given)
    line = str(caught.value)
    assert "\n" not in line
    assert not Path("build").exists(), "a rejected value is not remembered"
    return line
