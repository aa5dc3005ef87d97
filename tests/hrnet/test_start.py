"""Errors before a stage starts: a missing package, an old Python, Ctrl-C while modules load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import hrnet
from make.bundle import readme_text
from tests.support import ROOT

STAGES = [
    "atc.convert",
    "atc.emulator",
    "benchmarks.memory",
    "data.digits",
    "infer.bench",
    "infer.emulator",
    "make.shards",
    "postprocess.classification",
    "preprocess.pose",
    "pth2onnx.classification",
    "train.classification",
    "train.pose.reference",
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A python without packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin/python"


def start(python: Path | str, stage: str, path: Path = ROOT) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": f"{path}:{ROOT}", "PATH": os.environ["PATH"]}
    given = {"env": environment, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(python), "-m", stage], cwd=path, **given)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_package_is_reported_in_one_line(stage: str, bare: Path) -> None:
    started = start(bare, stage)
    errors = started.communicate()[1]
    assert started.returncode == 2 and errors.count("\n") == 1
    assert errors.startswith(f"{stage}: error: {bare}: No module named '")
    assert "make setup" in errors and "PYTHON=" in errors


@pytest.mark.parametrize(
    "error", ["raise ImportError('libc.so.7: cannot open shared object file')", "from os import nothing_of_this_name"]
)
def test_a_broken_package_is_reported_in_one_line(error: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(error)
    started = start(sys.executable, "preprocess.classification", tmp_path)
    errors = started.communicate()[1]
    assert started.returncode == 2 and errors.count("\n") == 1 and "make setup" in errors


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "yacs").mkdir()
    for name in ("__init__.py", "config.py"):
        (tmp_path / "yacs" / name).write_text("from hrnet.cli import nothing_of_this_name")
    started = start(sys.executable, "preprocess.classification", tmp_path)
    errors = started.communicate()[1]
    assert started.returncode == 1 and "Traceback" in errors and "nothing_of_this_name" in errors


@pytest.mark.parametrize("stage", ["preprocess.classification", "train.classification", "atc.emulator"])
def test_ctrl_c_while_modules_load_is_reported_in_one_line(stage: str, tmp_path: Path) -> None:
    wait = "[time.sleep(0.01) for _ in range(6000)]"  # one long sleep would not notice a signal just before it
    (tmp_path / "numpy.py").write_text(f"import time; open('loading', 'w'); {wait}")
    # If pytest runs in the background, it ignores SIGINT, and the child would inherit this.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = start(sys.executable, stage, tmp_path)
    finally:
        signal.signal(signal.SIGINT, previous)
    while not (tmp_path / "loading").exists():
        assert started.poll() is None
    started.send_signal(signal.SIGINT)
    errors = started.communicate()[1]
    assert started.returncode == 130 and errors.count("\n") == 1
    assert errors.startswith(f"{stage}: interrupted") and "rerun" in errors


def test_a_python_that_is_too_old_is_reported_in_one_line(bare: Path) -> None:
    code = f"import sys; sys.version_info = (3, 7, 9); sys.path.insert(0, {str(ROOT)!r}); import hrnet"
    done = subprocess.run([bare, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "Python 3.7" in done.stderr and "3.9" in done.stderr and "PYTHON=" in done.stderr


def test_a_board_names_the_command_that_installs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the packages of make serve and make predict, if one of these is missing."""
    text = readme_text("net", "model/a.om", "prep/a", None, pose=False)
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(hrnet, "BOARD", True)
    monkeypatch.setattr(hrnet, "ROOT", str(tmp_path))
    for program, more in (("infer.run", False), ("serve.run", True), ("preprocess.classification", True)):
        install, _, more_help = hrnet.how_to_install(program).partition("; ")
        words = install.split()
        assert "make doctor" in more_help
        assert words[:6] == [sys.executable, "-m", "pip", "install", "-c", "constraints.txt"]
        assert "yacs" in words and ("simplejpeg" in words, "starlette" in words) == (more, more), program
        assert words.count("-c") == 1 and not [word for word in words if word.startswith("python")]
    (tmp_path / "README.md").unlink()
    assert hrnet.how_to_install("infer.run").startswith("make doctor lists")
