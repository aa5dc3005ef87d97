"""One function over many files in processes of their own, which lose no error and outlive no parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, TypeVar

from hrnet.cli import UserError, progress

FILES_A_TASK = 16  # files handed to a worker process at once: large enough to hide the hand-over

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_files(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> list[Result]:
    """`work` of each task, in order. An exception of a worker is raised here, and so is its death."""
    try:
        # Forked, a worker inherits its parent's lock and holds it until it too has gone.
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, context, initializer=_attend_parent) as pool:
            return list(progress(pool.map(work, tasks, chunksize=FILES_A_TASK), len(tasks), unit="img"))
    except BrokenProcessPool:
        hint = "rerun with fewer --workers; what is finished is kept"
        raise UserError("a worker process was killed, most likely for want of memory", hint=hint) from None


def _attend_parent() -> None:
    """Leave Ctrl-C to the parent, and go when it goes: a worker of a killed parent would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_go_with_parent, daemon=True).start()


def _go_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
