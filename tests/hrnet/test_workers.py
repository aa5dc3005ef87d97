"""hrnet/workers.py: results in order, and no error or death of a worker is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from hrnet.cli import UserError
from hrnet.workers import map_files
from tests.support import ROOT


def die(task: int) -> int:
    os._exit(9)


def fail(task: int) -> int:
    raise ValueError(f"worker {task}")


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(UserError) as caught:
        map_files(die, [1], 2)
    assert "taskset -c 0 " in str(caught.value.hint)


def test_an_error_of_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="worker 7"):
        map_files(fail, [7], 2)


def test_results_come_in_order() -> None:
    assert map_files(abs, list(range(-40, 0)), 2) == list(range(40, 0, -1))


@pytest.mark.parametrize("workers", [1, 2])
def test_one_process_works_if_semaphores_are_missing(
    workers: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A read-only /dev/shm: one process needs no semaphores, and does the work of all."""

    def reject(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", reject)
    assert map_files(abs, [-1, -2], workers) == [1, 2]
    note = capsys.readouterr().err
    assert note == "" if workers == 1 else "/dev/shm: Read-only file system" in note


def test_ctrl_c_while_workers_start_prints_nothing() -> None:
    """Each new worker gets a SIGINT before it can ignore it, as from a terminal."""
    script = """if 1:
        import multiprocessing.util, os, signal
        from hrnet.workers import map_files
        interrupt = lambda _: os.getpid() != parent and os.kill(os.getpid(), signal.SIGINT)
        parent = os.getpid()
        multiprocessing.util.register_after_fork(interrupt, interrupt)
        print(map_files(abs, [-1, -2, -3], 2, 1))
    """
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[1, 2, 3]\n") and "Traceback" not in done.stderr, done.stderr
