"""hrnet/given.py: values of a call are forgotten if its first stage fails with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from hrnet.cli import LockedError, UserError, WorkFailed, command
from hrnet.given import settle
from hrnet.io.files import locked
from tests.support import ROOT


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A call gave LIMIT=9 instead of the remembered 3, and BATCH, which had no value. SOC is from an earlier call."""
    folder, before = tmp_path / "settings", tmp_path / ".settings_before.x"
    for name, path, text in (
        ("LIMIT", folder, "LIMIT ?= 9\n"),
        ("BATCH", folder, "BATCH ?= 4\n"),
        ("SOC", folder, "SOC ?= Ascend310P3\n"),
        ("LIMIT", before, "LIMIT ?= 3\n"),
        ("BATCH", before, ""),
    ):
        path.mkdir(exist_ok=True)
        (path / f"{name}.mk").write_text(text)
    for name in ("LIMIT", "BATCH"):
        (before / f"{name}.given").write_text((folder / f"{name}.mk").read_text())
    os.utime(before / "LIMIT.mk", (1000, 1000))
    monkeypatch.setenv("SETTINGS_BEFORE", str(before))
    return folder


def content(settings: Path) -> dict[str, str]:
    return {path.stem: path.read_text().partition("= ")[2].strip() for path in settings.iterdir()}


def stage(error: Optional[BaseException]) -> int:
    @command
    def main(argv: Optional[list[str]] = None) -> None:
        if error is not None:
            raise error

    return main([])


@pytest.mark.parametrize("error", [UserError("no such file"), OSError(28, "No space left on device")])
def test_a_first_stage_that_fails_forgets_the_values(
    settings: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(error) == 2
    assert content(settings) == {"LIMIT": "3", "SOC": "Ascend310P3"}
    assert (settings / "LIMIT.mk").stat().st_mtime == 1000, "products of the old value stay up to date"
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("not remembered") and "BATCH=4 LIMIT=9" in line and "SOC" not in line


@pytest.mark.parametrize("error", [None, WorkFailed("2 files rejected"), KeyboardInterrupt()])
def test_values_stay_if_only_a_later_stage_exits_with_2(settings: Path, error: Optional[BaseException]) -> None:
    stage(error)
    assert stage(UserError("no such file")) == 2
    assert content(settings) == {"LIMIT": "9", "BATCH": "4", "SOC": "Ascend310P3"}


def test_values_stay_if_the_hint_is_another_call_of_make(settings: Path) -> None:
    """`make report PRECISION=int8` before `make eval`: the second call must evaluate int8."""
    assert stage(UserError("no metrics record", hint="run make eval")) == 2
    assert content(settings) == {"LIMIT": "9", "BATCH": "4", "SOC": "Ascend310P3"}


def test_values_stay_if_another_run_has_the_lock(settings: Path, tmp_path: Path) -> None:
    """It may have been given the same values, which it still uses."""
    path = tmp_path / "run_lock"
    with locked(path), pytest.raises(LockedError) as caught, locked(path):
        pass
    assert stage(caught.value) == 2
    assert content(settings) == {"LIMIT": "9", "BATCH": "4", "SOC": "Ascend310P3"}


def test_a_script_that_make_did_not_start_changes_nothing(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv("SETTINGS_BEFORE") if value is None else monkeypatch.setenv("SETTINGS_BEFORE", value)
        assert stage(UserError("no such file")) == 2
    assert len(content(settings)) == 3


def test_a_value_that_another_call_has_written_since_stays(settings: Path) -> None:
    (settings / "LIMIT.mk").write_text("LIMIT ?= 7\n")
    assert stage(UserError("no such file")) == 2
    assert content(settings) == {"LIMIT": "7", "SOC": "Ascend310P3"}


def test_a_removed_file_stops_nothing(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings / "BATCH.mk").unlink()
    assert stage(UserError("no such file")) == 2
    assert content(settings) == {"LIMIT": "3", "SOC": "Ascend310P3"}
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(" LIMIT=9") and not list(settings.parent.glob(".settings_before*"))


def test_a_value_given_as_empty_is_restored_but_not_listed(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (settings / "LIMIT.mk", settings.parent / ".settings_before.x/LIMIT.given"):
        path.write_text("LIMIT ?= \n")
    assert stage(UserError("no such file")) == 2
    assert content(settings) == {"LIMIT": "3", "SOC": "Ascend310P3"}
    assert capsys.readouterr().err.splitlines()[-1].endswith(": BATCH=4")


def test_only_the_script_that_make_started_decides(settings: Path) -> None:
    """Not a stage that it calls, in its process or in another one."""

    @command
    def outer(argv: Optional[list[str]] = None) -> None:
        words = [sys.executable, "-c", "from hrnet.cli import command; command(lambda argv: 0)([])"]
        subprocess.run(words, cwd=ROOT, check=True)
        assert stage(None) == 0 and stage(UserError("no such file")) == 2
        assert len(content(settings)) == 3
        raise UserError("rejected")

    assert outer([]) == 2
    assert content(settings) == {"LIMIT": "3", "SOC": "Ascend310P3"}


def test_an_error_of_argparse_forgets_the_values(settings: Path) -> None:
    with pytest.raises(SystemExit):
        stage(SystemExit(2))
    assert content(settings) == {"LIMIT": "3", "SOC": "Ascend310P3"}


def test_a_script_of_several_stages_decides_after_its_first(settings: Path) -> None:
    @command
    def main(argv: Optional[list[str]] = None) -> None:
        settle(0)
        raise UserError("the second stage failed")

    assert main([]) == 2 and len(content(settings)) == 3
