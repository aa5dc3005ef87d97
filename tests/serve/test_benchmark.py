"""benchmarks.serve without other servers: it measures this server, and a loop without HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import serve


def test_the_server_and_the_bare_loop(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(chain)
    words = ["--cfg", "small.yaml", "--images", "data/val", "--models", "om/bs1.onnx", "om/bs4.onnx"]
    assert serve.main([*words, "--bare", "--clients", "2", "--seconds", "0.3", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines[0].startswith("small, 11 images, 2 clients")
    for line, name in zip(lines[1:], ("serve", "serve, binary", "bare loop")):
        found = re.match(rf"{name} +([0-9.]+) images/s  serve / {name}: [0-9.]+", line)
        assert found and float(found[1]) > 0, line
        assert "CPU" in line
