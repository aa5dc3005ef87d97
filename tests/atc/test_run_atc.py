"""How atc is started: without this project's .venv on PATH, with CANN's environment script in the hint."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from atc import convert
from hrnet import cann, cann_tool
from tests.atc.calls import arguments, error_line
from tests.support import fakes


def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment, first on PATH, with a python3; sys.prefix names it."""
    venv = folder / "own/.venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("")
    python = venv / "bin/python3"
    python.write_text("#!/bin/sh\nexit 1\n")  # the fake atc regards it as one of a virtual environment
    python.chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(venv))
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    monkeypatch.setenv("PATH", f"{venv}/bin{os.pathsep}{os.environ['PATH']}")
    return venv


@pytest.mark.usefixtures("here", "atc")
def test_atc_does_not_find_the_python_of_the_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = environment(tmp_path, monkeypatch)
    assert convert.main(arguments("a.om", "--batch_size", "1")) == 0
    assert str(venv / "bin") in os.environ["PATH"] and str(venv / "bin") not in cann_tool.outer_path()


@pytest.mark.usefixtures("here", "aoe")
def test_aoe_does_not_find_the_python_of_the_venv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    venv = environment(tmp_path, monkeypatch)
    folder = tmp_path / "tool"
    folder.mkdir()
    fakes.program(folder / "aoe", "sh -c 'echo $PATH; exit 1'")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert convert.main(arguments("a.om", "--tune", "aoe")) == 1
    path = capfd.readouterr().out.splitlines()[1]
    assert str(folder) in path.split(os.pathsep) and str(venv / "bin") not in path.split(os.pathsep)


def test_the_venv_is_removed_from_path_also_behind_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = environment(tmp_path, monkeypatch)
    (tmp_path / "link").symlink_to(venv)
    folders = [f"{venv}/bin/", f"{tmp_path}/link/bin", "/usr/bin", str(tmp_path)]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    assert cann_tool.outer_path().split(os.pathsep) == folders[2:]


def test_path_is_unchanged_outside_of_a_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("PATH", f"{sys.base_prefix}/bin{os.pathsep}/usr/bin")
    assert cann_tool.outer_path() == os.environ["PATH"]


@pytest.mark.usefixtures("here", "atc")
def test_a_python_without_the_packages_of_tbe_gets_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The python3 of another virtual environment, which the user made."""
    (tmp_path / "other").mkdir()
    fakes.program(tmp_path / "other/python3", "false")
    monkeypatch.setenv("PATH", f"{tmp_path}/other{os.pathsep}{os.environ['PATH']}")
    line = error_line(capsys, arguments("a.om"), 1)
    assert "EC0010" in line and "pip install decorator" in line


def test_the_hint_names_the_environment_script_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    new, old = tmp_path / "cann/set_env.sh", tmp_path / "ascend-toolkit/set_env.sh"
    monkeypatch.setattr(cann, "SET_ENV", (str(new), str(old)))
    assert cann.source_set_env() == f"source {old}", "none exists"
    old.parent.mkdir()
    old.touch()
    assert cann.source_set_env() == f"source {old}"
    new.parent.mkdir()
    new.touch()
    assert cann.source_set_env() == f"source {new}"
    own = tmp_path / "opt/latest"
    own.mkdir(parents=True)
    (own.parent / "set_env.sh").touch()
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(own))
    assert cann.source_set_env() == f"source {own.parent}/set_env.sh"


def test_a_missing_atc_is_reported_with_the_environment_script(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = here / "cann/set_env.sh"
    script.parent.mkdir()
    script.touch()
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    monkeypatch.setattr(cann, "SET_ENV", (str(script),))
    monkeypatch.setenv("PATH", str(here))
    assert f"source {script}" in error_line(capsys, arguments("a.om"))
