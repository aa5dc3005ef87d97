"""benchmarks/torchscript.py: what it prints, and its error if outputs differ."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import torchscript
from hrnet.cli import WorkFailed


@pytest.mark.slow
def test_all_four_candidates_are_timed(
    torchscript_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchscript, "cores", lambda: 1)  # two threads are slower on such small layers
    where = ["--cfg", str(torchscript_files / "tiny.yaml"), "--weights", str(torchscript_files / "tiny.pth")]
    assert torchscript.main([*where, "--batches", "2", "--count", "5", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[-8:]
    assert re.fullmatch("4 images, batch 2, [0-9]+ cores, 1 rounds, medians", lines[0])
    names = ["torch eager, channels last", r"emulator, onnxruntime [\d.]+", r"emulator, torchscript by torch [\d.]+"]
    for line, name in zip(lines[1:4], names):
        assert re.fullmatch(rf"{name}: max \|difference\| of a logit \d\.\de-\d\d", line)
    for line, name in zip(lines[4:], ["torch eager", *names]):
        assert re.fullmatch(rf"{name} +[\d.]+ images/s +[\d.]+ x torch eager", line)


def test_different_outputs_are_an_error() -> None:
    expected = np.array([[1.0, -20.0], [3.0, 4.0]])
    assert torchscript.difference("ours", expected + 1e-3, expected) == pytest.approx(1e-3)
    for wrong, found in ((expected + 3e-3, "3.0e-03"), (expected * np.nan, "nan")):
        with pytest.raises(WorkFailed) as error:
            torchscript.difference("ours", wrong, expected)
        assert (error.value.where, error.value.expected, error.value.found) == ("ours", "at most 2.0e-03", found)
