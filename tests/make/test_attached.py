"""make/attached.py: exit codes, and no process is left when the caller is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from make import attached
from tests.support import ROOT
from tests.support.processes import group_is_gone

START = [sys.executable, "-m", "make.attached"]
# A stage that ignores SIGTERM, with a child; it prints its process group.
STAGE = """
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
print(os.getpgid(0), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_code_is_that_of_the_command(script: str, code: int) -> None:
    process = subprocess.Popen([*START, "bash", "-c", script], stdin=subprocess.PIPE, cwd=ROOT)
    assert process.wait() == code


def test_without_a_caller_the_command_is_killed() -> None:
    assert subprocess.run([*START, "sleep", "600"], stdin=subprocess.DEVNULL, cwd=ROOT).returncode == attached.KILLED


def test_all_processes_end_with_a_killed_caller(tmp_path: Path) -> None:
    words = [*START, sys.executable, "-c", STAGE]
    caller = f"import subprocess; subprocess.Popen({words!r}, stdin=subprocess.PIPE).wait()"
    process = subprocess.Popen([sys.executable, "-c", caller], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    group = int(process.stdout.readline())
    os.kill(group, 0)
    process.kill()
    process.wait()
    assert group_is_gone(group)


def test_sigterm_ends_all_processes() -> None:
    process = subprocess.Popen(
        [*START, sys.executable, "-c", STAGE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    group = int(process.stdout.readline())
    process.terminate()
    assert process.wait() == attached.KILLED
    assert group_is_gone(group)
    assert attached.KILLED == 128 + signal.SIGKILL


def test_sigterm_after_the_end_of_the_command_changes_nothing() -> None:
    """The signal handler of make.attached once waited forever for a lock that its own thread already had."""
    code = "import os, signal; from make import attached; attached.run(['true']); os.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=ROOT, timeout=60)
    assert done.returncode == 0


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        attached.main([])
    assert caught.value.code == 2 and "command" in capsys.readouterr().err
