"""Apply a function to many files in a pool of processes, which report errors and exit with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, Optional, TypeVar

from hrnet.cli import UserError, progress

SHARED_MEMORY = "/dev/shm"  # holds semaphores, and tensors that processes exchange
CTRL_C = {signal.SIGINT}
FILES_AT_ONCE = 16  # files that are sent to a worker at once: enough to hide the communication

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_files(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    at_once: int = FILES_AT_ONCE,
    unit: str = "images",
) -> list[Result]:
    """Apply `work` to each task; the results have the order of the tasks. Works without a pool if `workers` is 1 or the
    machine cannot create semaphores. Raises the exception of a worker, and UserError if a worker was killed."""
    pool = _pool(workers) if workers > 1 else None
    if pool is None:
        return [work(task) for task in progress(tasks, len(tasks), unit=unit)]
    try:
        with pool:
            with ctrl_c_blocked():
                results = pool.map(work, tasks, chunksize=at_once)  # starts the workers
            return list(progress(results, len(tasks), unit=unit))
    except BrokenProcessPool:
        hint = "rerun the same command; if it happens again, use one core: taskset -c 0 <the same command>"
        raise UserError("a worker process was killed, probably because memory ran out", hint=hint) from None


@contextlib.contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """A context in which to start worker processes. Ctrl-C is delayed until the context ends, and in a worker until it
    calls `ignore_ctrl_c`; else a worker that has just started would print a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CTRL_C)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """Ignore Ctrl-C in this worker process: its parent handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CTRL_C)


def _pool(workers: int) -> Optional[ProcessPoolExecutor]:
    # fork, so that a worker inherits the descriptor of the stage's lock file: the output directory stays locked until
    # the last worker has exited too.
    context = multiprocessing.get_context("fork")
    try:
        return ProcessPoolExecutor(workers, context, initializer=_follow_parent)
    except OSError as error:
        print(f"{SHARED_MEMORY}: {error.strerror}; using one process", file=sys.stderr)
        return None


def _follow_parent() -> None:
    """Ignore Ctrl-C, and exit with the parent: else the worker would wait forever."""
    ignore_ctrl_c()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
