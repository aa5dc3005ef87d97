"""Calls of atc.convert and what they write, for its tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from atc import convert
from hrnet.io.stamp import stamp_path
from tests.support import fakes


def on_path(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, tool: str) -> pytest.MonkeyPatch:
    folder = tmp_path_factory.mktemp("bin")
    getattr(fakes, tool)(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return monkeypatch


def arguments(output: str, *more: str) -> list[str]:
    backend = "ascend" if output.endswith(".om") else "onnxruntime"
    return ["--model", "model.onnx", "--output", output, "--backend", backend, *more]


def files_in(folder: Path) -> list[str]:
    """All files and directories in `folder`, except locks."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith("_lock"))


def product(output: str) -> list[str]:
    return [str(stamp_path(output)), output, f"{output}.json"]


def seen_by_atc(output: str) -> dict[str, object]:
    """The arguments that the fake atc or aoe got, from the .om that it wrote."""
    return json.loads(Path(output).read_bytes().partition(b"\n")[0][4:])


def error_line(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 2) -> str:
    """The error line of a run that ends with `code`."""
    assert convert.main(words) == code
    return capsys.readouterr().err
