"""benchmarks/train_loop.py: both loops compute the same loss, or the run fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import train_loop
from tests.support.training_sets import data_set, write_config


@pytest.fixture
def call(tmp_path: Path) -> list[str]:
    data = data_set(tmp_path / "data")
    given = ("--cfg", write_config(tmp_path), "--dataset", data, "--batch_size", 4, "--steps", 2, "--rounds", 1)
    return [*map(str, given), "--workers", "0"]


def test_both_loops_have_the_same_loss(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train_loop.main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("small: 2 steps of 4, 0 workers, ")
    one, other = lines[0].rpartition("first loss ")[2].split(" and ")
    assert float(one) == pytest.approx(float(other), rel=1e-3)
    assert lines[1].startswith("plain loop ") and lines[1].endswith("1.00 x plain loop")
    assert lines[2].startswith("trainer, float32 ") and lines[2].endswith(" x plain loop")


def test_different_losses_are_an_error(
    call: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_loop, "plain", lambda *_: lambda: [9.0])
    assert train_loop.main(call) == 1
    assert "expected 9.0, found " in capsys.readouterr().err


def test_more_steps_than_images_are_rejected(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train_loop.main([*call, "--steps", "3"]) == 2
    assert "--batch_size times --steps is too large (expected at most 9 images, found 12)" in capsys.readouterr().err
