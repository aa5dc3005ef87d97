"""Files in, files out: batches are read, computed and written by a few threads, so that files cost no computing time.

One thread more than the runtime's `requests` goes through read, compute, write with a batch buffer of its own; a
semaphore lets `requests` of them compute at once. So memory does not grow with the number of files. `run_pure` computes
one batch again and again in the same way, without files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from hrnet.cli import WorkFailed, cores, progress
from hrnet.io.compiled import TensorInfo
from hrnet.io.tensors import write_output
from infer.emulator.path_checks import files_a_batch
from infer.runtimes.base import Runtime

MAX_REQUESTS = 8  # computed at once: each holds a batch's activations, some 0.12 GiB for W18 at batch 16


def requests() -> int:
    """How many batches are computed at once: one for each core up to MAX_REQUESTS; more cores are shared out."""
    return min(cores(), MAX_REQUESTS)


class SharedClock:
    """Device time of requests that run side by side.

    The clock runs at 1/n of real time while n requests compute, so the times that it gives to batches add up to the
    time in which anything was computed, and `1000 * batch / mean` is the true rate (ais_bench computes one batch after
    another, where both are the same).
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
    """Seconds summed over all threads (they overlap), the total by the wall, and milliseconds of each batch."""

    read: float = 0.0
    infer: float = 0.0
    write: float = 0.0
    total: float = 0.0
    device_ms: list[float] = field(default_factory=list)


class Computer:
    """A runtime under the shared clock: `requests` batches are computed at once, the next one waits."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._clock, self._free = SharedClock(), threading.Semaphore(runtime.requests)

    def compute(self, batch: np.ndarray, loop: int, device_ms: list[float]) -> list[np.ndarray]:
        """The outputs of a batch that is computed `loop` times; the milliseconds of each are added to `device_ms`."""
        with self._free:
            for _ in range(loop):
                begun = self._clock.start()
                outputs = self.runtime.compute(batch)
                device_ms.append((self._clock.stop() - begun) * 1000)
        return outputs


def share_out(jobs: Iterable[int], threads: int, work: Callable[[Iterator[int]], None]) -> float:
    """Let threads `work` on `jobs`, each on an iterator of its share; return the seconds by the wall. An error of any
    thread stops the others and is raised here."""
    shared, lock, broken = iter(jobs), threading.Lock(), threading.Event()

    def share() -> Iterator[int]:
        while not broken.is_set():
            with lock:
                job = next(shared, None)
            if job is None:
                return
            yield job

    def guarded() -> None:
        try:
            work(share())
        except BaseException:
            broken.set()
            raise

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(guarded) for _ in range(threads)]
        try:
            for worker in workers:
                worker.result()
        except BaseException:
            broken.set()
            raise
    return time.perf_counter() - begun


def run_pure(runtime: Runtime, batch: np.ndarray, loop: int) -> tuple[Times, list[np.ndarray]]:
    """Compute one batch `loop` times without a file; the times, and the outputs of one of them."""
    times, computer = Times(), Computer(runtime)
    outputs: list[np.ndarray] = []

    def work(rounds: Iterator[int]) -> None:
        for _ in rounds:
            outputs[:] = computer.compute(batch, 1, times.device_ms)

    times.total = share_out(progress(range(loop), unit="batch"), min(runtime.requests, loop), work)
    times.infer = sum(times.device_ms) / 1000
    return times, outputs


def pure_data(kind: str, tensor: TensorInfo) -> np.ndarray:
    """A batch for `run_pure`: `zero`, or the `random` bytes of ais_bench, which as floats may be any number and none;
    the same ones each time."""
    size = tensor.shape[0] * tensor.bytes_of_one()
    values = np.random.default_rng(0).integers(0, 256, size, np.uint8) if kind == "random" else np.zeros(size, np.uint8)
    return values.view(tensor.dtype).reshape(tensor.shape)


def warm_up(runtime: Runtime, tensor: TensorInfo, count: int) -> None:
    """Compute `count` batches of zeros outside all times, and hold the outputs against the model's word. `tensor`: the
    input at the shape that is set."""
    batch = pure_data("zero", tensor)
    for _ in range(count):
        runtime.check(batch, runtime.compute(batch))


class Pipeline:
    """`inputs` through `runtime` into `folder`. `batch` files go through together; the last batch is padded with its
    own first file, as ais_bench does, and what the padding gave is dropped."""

    def __init__(
        self, runtime: Runtime, inputs: list[Path], folder: Path, suffix: str, tensor: Optional[TensorInfo] = None
    ) -> None:
        """`tensor`: the input at the shape that is set; the model's own, where that is fixed."""
        self.runtime, self.inputs, self.folder, self.suffix = runtime, inputs, folder, suffix
        self.tensor = tensor or runtime.static_input()
        self.shape, self.dtype = tuple(self.tensor.shape), np.dtype(self.tensor.dtype)
        self.batch = files_a_batch(int(np.prod(self.shape)) * self.dtype.itemsize, self._payload_bytes(inputs[0]))

    def output_names(self, file: Path) -> list[Path]:
        """Where the outputs of one input go: its name up to the first dot, and the output's number."""
        stem = file.name.split(".")[0]
        return [self.folder / f"{stem}_{k}.{self.suffix}" for k in range(len(self.runtime.outputs))]

    def run(self, loop: int = 1) -> Times:
        """Infer all inputs, each batch `loop` times."""
        times, lock, computer = Times(), threading.Lock(), Computer(self.runtime)

        def work(starts: Iterator[int]) -> None:
            buffer = np.empty(self.shape, self.dtype)
            for start in starts:
                files = self.inputs[start : start + self.batch]
                device_ms: list[float] = []
                begun = time.perf_counter()
                batch = self._read(files, buffer)
                was_read = time.perf_counter()
                outputs = computer.compute(batch, loop, device_ms)
                computed = time.perf_counter()
                self._write(files, outputs)
                with lock:
                    times.read += was_read - begun
                    times.write += time.perf_counter() - computed
                    times.device_ms += device_ms

        starts = range(0, len(self.inputs), self.batch)
        threads = min(self.runtime.requests + 1, len(starts))
        times.total = share_out(progress(starts, unit="batch"), threads, work)
        times.infer = sum(times.device_ms) / 1000
        return times

    def _payload_bytes(self, file: Path) -> int:
        if file.suffix.lower() == ".npy":
            return self._load_npy(file).nbytes
        return file.stat().st_size

    def _load_npy(self, file: Path, mapped: bool = False) -> np.ndarray:
        try:
            array: np.ndarray = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise WorkFailed(f"{file}: is no readable npy: {error}") from None
        if array.dtype != self.dtype:
            raise WorkFailed(f"{file}: dtype (expected {self.dtype}, as the model's input, found {array.dtype})")
        return array

    def _read(self, files: list[Path], buffer: np.ndarray) -> np.ndarray:
        """The batch of these files; `buffer` is the thread's own, for it to lie in."""
        rows = buffer.reshape(self.batch, -1)
        for row, file in zip(rows, files):
            npy = self._load_npy(file) if file.suffix.lower() == ".npy" else None
            found = file.stat().st_size if npy is None else npy.nbytes
            if found != row.nbytes:
                expected = f"{row.nbytes} bytes, as the first input"
                hint = "remove it and manifest.json, then make preprocess"
                raise WorkFailed(f"{file}: size (expected {expected}, found {found}); {hint}")
            if npy is None:
                with open(file, "rb") as stream:
                    if stream.readinto(row.view(np.uint8).data) != row.nbytes:
                        raise WorkFailed(f"{file}: was cut while it was read")
            else:
                row[:] = npy.reshape(-1)
        rows[len(files) :] = rows[0]
        return buffer

    def _write(self, files: list[Path], outputs: list[np.ndarray]) -> None:
        each = [np.array_split(output, self.batch) for output in outputs]
        for j, file in enumerate(files):
            for k, path in enumerate(self.output_names(file)):
                write_output(path, each[k][j])
