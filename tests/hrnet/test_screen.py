"""If printing fails (a closed pipe, a full disk, no descriptor), product and exit code stay the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.atc_arguments import command_of
from tests.support.onnx_models import classifier, saved

WORK = """
import sys
from hrnet.cli import UserError, command

@command
def main(argv=None):
    print("a line", flush=True)
    for number in range(2000):
        print(f"{number} of many lines that fill every buffer on the way to the screen")
    open("product", "w").write("whole")
    print("no line at the end", end="")
    print("a note", file=sys.stderr)
    if sys.argv[1:]:
        raise UserError("wrong", where="here")

sys.exit(main())
"""
SCREENS = ["> /dev/full", "2> /dev/full", "> /dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| true"]


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`command` in bash. A pipeline fails if any of its programs fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("screen", [*SCREENS, "2>&1 | true", "| head -1", "2>&1 | head -1"])
@pytest.mark.parametrize("unbuffered", ["", "-u"])
def test_a_stage_finishes_if_printing_fails(screen: str, unbuffered: str, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(WORK)
    done = in_shell(f"{sys.executable} {unbuffered} stage.py {screen}", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "product").read_text() == "whole"
    errors = done.stderr.splitlines()
    assert len(errors) <= 2 and set(errors) <= {"a note", "stdout: No space left on device; the rest is not printed"}
    assert ("stdout: No space" in done.stderr) == (screen == "> /dev/full")


@pytest.mark.parametrize("screen", SCREENS)
def test_an_error_keeps_its_exit_code_if_printing_fails(screen: str, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(WORK)
    done = in_shell(f"{sys.executable} stage.py wrong {screen}", tmp_path)
    assert done.returncode == 2 and (tmp_path / "product").read_text() == "whole"


def test_a_nonblocking_pipe_gets_the_whole_output(tmp_path: Path) -> None:
    """Another program that shares the pipe may have made it nonblocking."""
    (tmp_path / "stage.py").write_text(WORK)
    reader = "import sys, time; time.sleep(0.5); sys.stdout.write(sys.stdin.read())"
    shared = "import os; os.set_blocking(1, False)"
    call = f"({sys.executable} -c '{shared}'; {sys.executable} stage.py) | {sys.executable} -c '{reader}'"
    done = in_shell(call, tmp_path)
    assert (done.returncode, done.stderr) == (0, "a note\n")
    assert done.stdout.count("\n") == 2001 and done.stdout.endswith("no line at the end")


@pytest.mark.parametrize("screen", ["| true", "> /dev/full", ">&-"])
def test_the_emulator_of_atc_finishes_if_printing_fails(screen: str, tmp_path: Path) -> None:
    saved(tmp_path, classifier())
    arguments = " ".join(f"'{argument}'" for argument in command_of(tmp_path))
    done = in_shell(f"{sys.executable} -m atc.emulator {arguments} {screen}", tmp_path)
    assert done.returncode == 0 and (tmp_path / "out.onnx").is_file()
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
