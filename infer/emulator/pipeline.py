"""Read, compute and write batches in several threads, so that file I/O overlaps with computing.

The number of threads is the runtime's `requests` + 1. Each thread has its own batch buffer, and a semaphore lets
`requests` threads compute at the same time. Memory does not grow with the number of files. `run_pure` computes one
batch repeatedly without file I/O.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from hrnet.cli import WorkFailed, cores, progress
from hrnet.io.compiled import TensorInfo
from hrnet.io.tensors import write_output
from infer.emulator.path_checks import files_per_batch
from infer.runtimes.base import Runtime

# In these versions of Python, two threads that read the header of an npy file at the same time can fail with a
# SystemError about AST recursion depth: https://github.com/python/cpython/issues/106905
UNSAFE = (3, 11) <= sys.version_info < (3, 11, 8) or (3, 12) <= sys.version_info < (3, 12, 2)
NPY_LOCK: AbstractContextManager[Any] = threading.Lock() if UNSAFE else nullcontext()
MAX_REQUESTS = 8  # each needs memory for the activations of a batch, about 0.12 GiB for W18 at batch 16


def default_requests() -> int:
    """The number of batches computed in parallel: one per core, at most MAX_REQUESTS."""
    return min(cores(), MAX_REQUESTS)


class SharedClock:
    """Device time of requests that run in parallel.

    While n requests compute, the clock runs at 1/n of real time. So the times of all batches add up to the time in
    which at least one request was computing, and `1000 * batch / mean` is the true rate. (ais_bench computes batches
    one after another, so it needs no such clock.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0.0
        self._running = 0
        self._last = 0.0

    def _step(self, change: int) -> float:
        with self._lock:
            moment = time.perf_counter()
            if self._running:
                self._now += (moment - self._last) / self._running
            self._running += change
            self._last = moment
            return self._now

    def start(self) -> float:
        return self._step(1)

    def stop(self) -> float:
        return self._step(-1)


@dataclass
class Times:
    """The times of one pass in seconds. The end of one pass overlaps with the beginning of the next."""

    read: float = 0.0  # sum over all threads
    infer: float = 0.0  # in which at least one request computed (SharedClock)
    write: float = 0.0  # sum over all threads
    total: float = 0.0  # wall time
    device_ms: list[float] = field(default_factory=list)  # milliseconds of each batch


class Job(NamedTuple):
    """A batch of one pass."""

    number: int  # of the pass
    start: int  # index of its first input


def run_batches(
    runtime: Runtime,
    jobs: Sequence[int],
    make_reader: Callable[[], Callable[[int], np.ndarray]],
    write: Callable[[int, list[np.ndarray]], None],
    loop: int = 1,
) -> Times:
    """For each job read a batch, compute it `loop` times and write its outputs. Each thread calls `make_reader` once.
    An error in a thread stops the others and is raised here."""

    def read_start() -> Callable[[Job], np.ndarray]:
        read = make_reader()
        return lambda job: read(job.start)

    of_one_pass = [Job(0, start) for start in jobs]
    return _run_jobs(runtime, of_one_pass, read_start, lambda job, outputs: write(job.start, outputs), loop)[0]


def _run_jobs(
    runtime: Runtime,
    jobs: Sequence[Job],
    make_reader: Callable[[], Callable[[Job], np.ndarray]],
    write: Callable[[Job, list[np.ndarray]], None],
    loop: int,
) -> list[Times]:
    """`run_batches` for several passes in one queue; returns the times of each."""
    passes = [Times() for _ in {job.number for job in jobs}]
    begun, ended = [math.inf] * len(passes), [0.0] * len(passes)
    clock = SharedClock()
    lock, free, stopped = threading.Lock(), threading.Semaphore(runtime.requests), threading.Event()
    remaining = iter(progress(jobs, len(jobs), unit="batch"))

    def next_job() -> Optional[Job]:
        with lock:
            return None if stopped.is_set() else next(remaining, None)

    def work() -> None:
        read = make_reader()
        while (job := next_job()) is not None:
            device_ms: list[float] = []
            begin = time.perf_counter()
            batch = read(job)
            read_end = time.perf_counter()
            with free:
                for _ in range(loop):
                    started = clock.start()
                    outputs = runtime.compute(batch)
                    device_ms.append((clock.stop() - started) * 1000)
            compute_end = time.perf_counter()
            write(job, outputs)
            end = time.perf_counter()
            with lock:
                times, number = passes[job.number], job.number
                times.read += read_end - begin
                times.write += end - compute_end
                times.device_ms += device_ms
                begun[number], ended[number] = min(begun[number], begin), max(ended[number], end)

    threads = min(runtime.requests + 1, len(jobs))
    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work) for _ in range(threads)]
        try:
            wait(workers, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()  # after an error or Ctrl-C each thread finishes its current batch
        for worker in workers:
            worker.result()
    for times, begin, end in zip(passes, begun, ended):
        times.total, times.infer = end - begin, sum(times.device_ms) / 1000
    return passes


def run_pure(runtime: Runtime, batch: np.ndarray, loop: int) -> tuple[Times, list[np.ndarray]]:
    """Compute one batch `loop` times without file I/O; returns the times and the last outputs."""
    outputs: dict[int, list[np.ndarray]] = {}
    times = run_batches(
        runtime, range(loop), lambda: lambda _: batch, lambda _, computed: outputs.__setitem__(0, computed)
    )
    times.read = times.write = 0.0
    return times, outputs[0]


def pure_data(kind: str, tensor: TensorInfo) -> np.ndarray:
    """A batch for `run_pure`. `kind`: `zero`, or `random` for random bytes as in ais_bench (floats may be NaN), equal
    in each call."""
    size = tensor.shape[0] * tensor.bytes_of_one()
    values = np.random.default_rng(0).integers(0, 256, size, np.uint8) if kind == "random" else np.zeros(size, np.uint8)
    return values.view(tensor.dtype).reshape(tensor.shape)


def warm_up(runtime: Runtime, tensor: TensorInfo, count: int) -> None:
    """Compute `count` batches of zeros before the measurement and check the outputs. `tensor`: the input with the shape
    that is set."""
    batch = pure_data("zero", tensor)
    for _ in range(count):
        runtime.check(len(batch), runtime.compute(batch))


class Pipeline:
    """Infers the files `inputs` by `runtime` and writes the outputs to `folder`. Each batch has `batch` files. The last
    batch is padded with its first file, as ais_bench does, and the outputs of the padding are not written."""

    def __init__(
        self, runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, tensor: Optional[TensorInfo] = None
    ) -> None:
        """`tensor`: the input with the shape that is set; by default the model's fixed shape."""
        self.runtime, self.inputs, self.folder, self.suffix = runtime, inputs, folder, suffix
        self.tensor = tensor or runtime.static_input()
        self.shape, self.dtype = tuple(self.tensor.shape), np.dtype(self.tensor.dtype)
        self.batch = files_per_batch(int(np.prod(self.shape)) * self.dtype.itemsize, self._payload_bytes(inputs[0]))

    def output_names(self, file: Path) -> list[Path]:
        """The output files of one input: its name up to the first dot, `_`, and the number of the output."""
        stem = file.name.split(".")[0]
        return [self.folder / f"{stem}_{k}.{self.suffix}" for k in range(len(self.runtime.outputs))]

    def run(self, loop: int = 1) -> Times:
        """Infer all inputs, each batch `loop` times."""
        return run_all([self], loop)[0]

    def order(self) -> Sequence[int]:
        """The index of the first input of each batch, in the order in which they are computed."""
        return range(0, len(self.inputs), self.batch)

    def make_reader(self) -> Callable[[int], np.ndarray]:
        """A function that reads the batch that starts with the input of the given index. The function has a buffer, so
        each thread needs its own function."""
        buffer = np.empty(self.shape, self.dtype)
        return lambda start: self._read(self._files(start), buffer)

    def _files(self, start: int) -> list[Path]:
        return self.inputs[start : start + self.batch]

    def _payload_bytes(self, file: Path) -> int:
        if file.suffix.lower() == ".npy":
            return self._load_npy(file).nbytes
        return file.stat().st_size

    def _load_npy(self, file: Path, mapped: bool = False) -> np.ndarray:
        try:
            with NPY_LOCK:
                array: np.ndarray = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise WorkFailed(f"not a readable npy file: {error}", where=file) from None
        if array.dtype != self.dtype:
            raise WorkFailed("wrong dtype", where=file, expected=f"{self.dtype} of the model", found=array.dtype)
        return array

    def _read(self, files: list[Path], buffer: np.ndarray) -> np.ndarray:
        """Read these files as a batch into the thread's `buffer`."""
        rows = buffer.reshape(self.batch, -1)
        for row, file in zip(rows, files):
            npy = self._load_npy(file) if file.suffix.lower() == ".npy" else None
            found = file.stat().st_size if npy is None else npy.nbytes
            if found != row.nbytes:
                expected = f"{row.nbytes} bytes, the size of the first input"
                hint = "remove it and manifest.json, then run make preprocess"
                raise WorkFailed("wrong size", where=file, expected=expected, found=found, hint=hint)
            if npy is None:
                with open(file, "rb") as stream:
                    if stream.readinto(row.view(np.uint8).data) != row.nbytes:
                        raise WorkFailed("became shorter while it was read", where=file)
            else:
                row[:] = npy.reshape(-1)
        rows[len(files) :] = rows[0]
        return buffer

    def write(self, start: int, outputs: list[np.ndarray]) -> None:
        self.runtime.check(self.batch, outputs)
        parts = [np.array_split(output, self.batch) for output in outputs]
        for j, file in enumerate(self._files(start)):
            for k, path in enumerate(self.output_names(file)):
                write_output(path, parts[k][j])


def run_all(pipelines: Sequence[Pipeline], loop: int = 1) -> list[Times]:
    """Infer the inputs of all pipelines, which have one runtime, each batch `loop` times; returns the times of each.
    The first batches of a pass are computed at the same time as the last ones of the pass before, so that no core
    waits."""

    def make_reader() -> Callable[[Job], np.ndarray]:
        readers = [pipeline.make_reader() for pipeline in pipelines]
        return lambda job: readers[job.number](job.start)

    jobs = [Job(number, start) for number, pipeline in enumerate(pipelines) for start in pipeline.order()]
    return _run_jobs(
        pipelines[0].runtime,
        jobs,
        make_reader,
        lambda job, outputs: pipelines[job.number].write(job.start, outputs),
        loop,
    )
