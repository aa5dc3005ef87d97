"""What torch installs or sets once in a process: a signal handler, and the time to wait for dead workers."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Iterator

import pytest
from torch.utils.data import _utils
from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler


@pytest.fixture(autouse=True)
def handler_of_dead_workers() -> Iterator[None]:
    """Install torch's handler of SIGCHLD again, which a trainer removes when a worker process dies."""
    _set_SIGCHLD_handler()
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    if multiprocessing.active_children():
        gc.collect()  # a data loader that is still referenced by an error holds worker processes
        multiprocessing.active_children()  # collects those that have ended: the handler would report them
    signal.signal(signal.SIGCHLD, handler)


@pytest.fixture(autouse=True)
def ended_workers_are_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data loader of torch waits this time, in seconds, for a worker process that has ended with an error."""
    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
