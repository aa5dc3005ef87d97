"""Compute rows in batches: each batch contains rows that were queued while the device was busy. A row is the model's
input for one image; with the flip test, an image has two rows.

Some threads prepare requests and queue their rows. Other threads compute; their number is the number of batches that
the runtime can compute in parallel. Each takes rows that are waiting and never waits for more. So a single client has
the latency of a batch of one, and under load the batches grow. The queue is unlimited here; serve.app limits the
images.

Rows that do not fill a compiled batch are padded up to the next compiled size, unless a smaller batch without padding
computes more rows per second. The times of all sizes, measured at the start, decide this: an NPU often needs little
more time for 16 images than for 9, a CPU almost twice the time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from hrnet.cli import cores
from infer.emulator.pipeline import warm_up
from infer.runtimes.base import Runtime


class Result(NamedTuple):
    """What was computed for one row."""

    outputs: list[np.ndarray]  # each with the batch axis, [1, ...], as in the output files
    best: Optional[tuple[np.ndarray, np.ndarray]]  # of a classifier: classes int64 [K], probabilities float64 [K]


NOTHING = Result([], None)  # not computed yet
TIMED_BATCHES = 2  # of each size at the start, after a first one, which is slower
NEARLY = 0.95  # of the highest rate: the largest batch with at least this rate is computed, since times vary


class Prepared(NamedTuple):
    """A request, ready to be computed."""

    rows: Sequence[np.ndarray]  # inputs of the compiled model without the batch axis
    context: Any = None  # data of the request that Served.answer needs


class Job:
    """A request, and the future for its context and results. Created in the event loop."""

    def __init__(self, prepare: Callable[[], Prepared]) -> None:
        self.prepare = prepare
        self.done: asyncio.Future[tuple[Any, list[Result]]] = asyncio.get_running_loop().create_future()

    def queue(self, prepared: Prepared) -> list[Row]:
        self.rows, self.context, self.left = prepared.rows, prepared.context, len(prepared.rows)
        self.results, self.queued = [NOTHING] * self.left, time.perf_counter()
        return [Row(self, place) for place in range(self.left)]


class Row(NamedTuple):
    job: Job
    place: int


class Batcher:
    """Prepares requests, and computes their rows with the runtimes of one device, one for each compiled batch size."""

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        rank: Optional[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = None,
        observe: Callable[[int, Sequence[float]], object] = lambda rows, waited: None,
    ) -> None:
        """`runtimes`: with fixed batch sizes, or one runtime with gears, whose batch size is 1; `rank`: computes the
        best classes, int64 [N, K], and their probabilities, float64 [N, K], from the first output of a batch;
        `observe`: called with the number of rows of each batch and the seconds that each of them waited."""
        self.by_size = {runtime.inputs[0].shape[0]: runtime for runtime in runtimes}
        self.sizes = sorted(self.by_size)
        self.rank, self.observe = rank, observe
        self.seconds = dict.fromkeys(self.sizes, 1.0)  # size -> time of a batch; equal until warm_up measures them
        self.arriving: SimpleQueue[Optional[Job]] = SimpleQueue()
        self.waiting: deque[Row] = deque()
        self.changed = threading.Condition()  # guards `waiting` and `ending`
        self.ending = False
        self.requests = min(runtime.requests for runtime in runtimes)
        self.failed: Optional[Exception] = None  # the error of the last batch

    def warm_up(self) -> None:
        """Compute batches of each size, check the outputs and measure the time. Raises UserError or WorkFailed."""
        for size, runtime in self.by_size.items():
            tensor = runtime.inputs[0]
            if runtime.gears:
                tensor = dataclasses.replace(tensor, shape=runtime.gears[0])
            warm_up(runtime, tensor, 1)
            times = []
            for _ in range(TIMED_BATCHES):
                begun = time.perf_counter()
                warm_up(runtime, tensor, 1)
                times.append(time.perf_counter() - begun)
            self.seconds[size] = min(times)

    def start(self) -> None:
        """Start the threads. Called in the event loop that gets the results."""
        self.loop = asyncio.get_running_loop()
        self.preparing = [threading.Thread(target=self._prepare) for _ in range(cores())]
        self.computing = [threading.Thread(target=self._work) for _ in range(self.requests)]
        for thread in (*self.preparing, *self.computing):
            thread.start()

    def stop(self) -> None:
        """Compute all requests that were submitted, then end the threads."""
        for _ in self.preparing:
            self.arriving.put(None)
        for thread in self.preparing:
            thread.join()
        with self.changed:
            self.ending = True
            self.changed.notify_all()
        for thread in self.computing:
            thread.join()

    def submit(self, prepare: Callable[[], Prepared]) -> asyncio.Future[tuple[Any, list[Result]]]:
        """Queue a request; returns a future for the context and the results of the rows, in order. `prepare` is called
        in a thread; an exception that it raises becomes that of the future. If the future is cancelled, the request is
        skipped."""
        job = Job(prepare)
        self.arriving.put(job)
        return job.done

    def _prepare(self) -> None:
        while (job := self.arriving.get()) is not None:
            if job.done.cancelled():
                continue
            try:
                rows = job.queue(job.prepare())
            except Exception as error:  # an error of the request: its future gets it, and the server continues
                self.loop.call_soon_threadsafe(_fail, {job}, error)
            else:
                with self.changed:
                    self.waiting.extend(rows)
                    self.changed.notify()

    def _take(self) -> list[Row]:
        """Wait for rows; return those of the next batch, or an empty list at the end."""
        rows: list[Row] = []
        with self.changed:
            while not rows:
                self.changed.wait_for(lambda: self.waiting or self.ending)
                if not self.waiting:
                    break
                while self.waiting and len(rows) < self.sizes[-1]:
                    row = self.waiting.popleft()
                    if not row.job.done.cancelled():
                        rows.append(row)
            count = rows_of_batch(len(rows), self.seconds)
            self.waiting.extendleft(reversed(rows[count:]))
            if self.waiting:
                self.changed.notify()  # wakes another thread for the rows that are left
        return rows[:count]

    def _work(self) -> None:
        while rows := self._take():
            try:
                results, self.failed = self._compute(rows), None
            except Exception as error:  # an error of the runtime: the requests of this batch get it
                self.failed = error
                self.loop.call_soon_threadsafe(_fail, {row.job for row in rows}, error)
            else:
                self.loop.call_soon_threadsafe(_deliver, rows, results)

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


def rows_of_batch(waiting: int, seconds: Mapping[int, float]) -> int:
    """The largest number of rows whose rate is nearly the highest (NEARLY). It is `waiting`, or a smaller batch size.
    `waiting`: from 1 to the largest size; `seconds`: {batch size: time of a batch}."""
    rates = {size: size / seconds[size] for size in seconds if size <= waiting}
    larger = [size for size in seconds if size > waiting]
    if larger and waiting not in rates:
        rates[waiting] = waiting / seconds[min(larger)]
    best = max(rates.values())
    return max(rows for rows, rate in rates.items() if rate >= NEARLY * best)


def _deliver(rows: list[Row], results: list[Result]) -> None:
    for row, result in zip(rows, results):
        job = row.job
        job.results[row.place], job.left = result, job.left - 1
        if job.left == 0 and not job.done.done():
            job.done.set_result((job.context, job.results))


def _fail(jobs: set[Job], error: Exception) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(error)
