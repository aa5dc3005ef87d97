"""Batches of the rows that queued while the device computed, padded up to the next compiled batch size.

Each of the runtime's requests has a thread. A thread takes all rows that are waiting, up to the largest batch, and
never waits for more. So a single client has the latency of a batch of one, and under load the batches grow by
themselves. The number of waiting rows is bounded by the server, not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Callable, NamedTuple, Optional

import numpy as np

from infer.emulator.pipeline import warm_up
from infer.runtimes.base import Runtime


class Result(NamedTuple):
    """What was computed for one row."""

    outputs: list[np.ndarray]  # each with the batch axis, [1, ...], as in the output files
    best: Optional[tuple[np.ndarray, np.ndarray]]  # of a classifier: classes int64 [K], probabilities float64 [K]


NOTHING = Result([], None)  # not computed yet


class Job:
    """The rows of one request, and the future of their results. Made in the event loop."""

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        self.rows, self.left = rows, len(rows)
        self.results = [NOTHING] * len(rows)
        self.done: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self.queued = time.perf_counter()


class Row(NamedTuple):
    job: Job
    place: int


class Batcher:
    """Computes rows by the runtimes of one device, one for each compiled batch size."""

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        rank: Optional[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = None,
        observe: Callable[[int, Sequence[float]], object] = lambda rows, waited: None,
    ) -> None:
        """`runtimes`: with a fixed batch size, or one with gears, whose batch size is 1; `rank`: from the first output
        of a batch to the best classes and their probabilities; `observe`: called with the number of rows of each batch
        and the seconds that each of them waited."""
        self.by_size = {runtime.inputs[0].shape[0]: runtime for runtime in runtimes}
        self.sizes = sorted(self.by_size)
        self.rank, self.observe = rank, observe
        self.waiting: SimpleQueue[Optional[Row]] = SimpleQueue()
        self.requests = min(runtime.requests for runtime in runtimes)
        self.threads: list[threading.Thread] = []
        self.failed: Optional[Exception] = None  # of the last batch

    def warm_up(self) -> None:
        """Compute a batch of each size and check the outputs. Raises UserError or WorkFailed."""
        for runtime in self.by_size.values():
            tensor = runtime.inputs[0]
            warm_up(runtime, dataclasses.replace(tensor, shape=runtime.gears[0]) if runtime.gears else tensor, 1)

    def start(self) -> None:
        """Start the threads, in the event loop that is told about results."""
        loop = asyncio.get_running_loop()
        self.threads = [threading.Thread(target=self._work, args=(loop,)) for _ in range(self.requests)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Compute all waiting rows, then end the threads."""
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()

    def submit(self, rows: Sequence[np.ndarray]) -> asyncio.Future[list[Result]]:
        """Queue the rows of a request, each without the batch axis; returns the future of their results, in order. Rows
        of a cancelled future are skipped."""
        job = Job(rows)
        for place in range(len(rows)):
            self.waiting.put(Row(job, place))
        return job.done

    def _take(self) -> list[Row]:
        """Wait for a row, and take what else is waiting; empty at the end."""
        rows: list[Row] = []
        with contextlib.suppress(Empty):
            while len(rows) < self.sizes[-1]:
                row = self.waiting.get(block=not rows)
                if row is None:
                    if rows:
                        self.waiting.put(None)  # this thread ends after its last batch
                    break
                if not row.job.done.cancelled():
                    rows.append(row)
        return rows

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while rows := self._take():
            try:
                results, self.failed = self._compute(rows), None
            except Exception as error:  # of any runtime: the requests of this batch get it, and the server goes on
                loop.call_soon_threadsafe(self._fail, rows, error)
            else:
                loop.call_soon_threadsafe(self._deliver, rows, results)

    def _compute(self, rows: list[Row]) -> list[Result]:
        started = time.perf_counter()
        size = next(size for size in self.sizes if size >= len(rows))
        values = [row.job.rows[row.place] for row in rows]
        batch = np.stack(values + [values[0]] * (size - len(rows)))
        outputs = self.by_size[size].compute(batch)
        best = self.rank(outputs[0][: len(rows)]) if self.rank else None
        self.observe(len(rows), [started - row.job.queued for row in rows])
        return [
            Result([output[i : i + 1] for output in outputs], (best[0][i], best[1][i]) if best else None)
            for i in range(len(rows))
        ]

    def _deliver(self, rows: list[Row], results: list[Result]) -> None:
        for row, result in zip(rows, results):
            job = row.job
            job.results[row.place], job.left = result, job.left - 1
            if job.left == 0 and not job.done.done():
                job.done.set_result(job.results)

    def _fail(self, rows: list[Row], error: Exception) -> None:
        self.failed = error
        for row in rows:
            if not row.job.done.done():
                row.job.done.set_exception(error)
