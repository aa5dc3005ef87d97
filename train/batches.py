"""The batches of one training process, and the worker processes that read them.

The random augmentation of an image depends only on SEED, the epoch and the image's index in the list. So the training
data is the same for any number of processes and workers, and after a resume.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from multiprocessing import queues
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from hrnet.cli import UserError
from hrnet.workers import SHARED_MEMORY, ctrl_c_blocked, ignore_ctrl_c
from train.distributed import DistributedContext

SEED = 0
ENLARGE = f"enlarge {SHARED_MEMORY}: docker run --shm-size=8g"
OWN_COMMAND = "run the trainer's own command (python -m train.…) with"  # make train has no flags

Key = tuple[int, int]  # epoch, index of the image in the list


class Samples(Dataset, abc.ABC):
    """A fixed list of images with their targets."""

    source: Path  # the directory or file that lists the images

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, epoch: int, index: int) -> tuple[torch.Tensor, Any]:
        """Return an image and its targets. The image is uint8 pixels [H, W, 3], or the network's input, float32
        [3, H, W]. Raises UserError for an unreadable file."""

    @abc.abstractmethod
    def sha256(self) -> str:
        """Hash of names and targets, in list order."""

    def notes(self) -> list[str]:
        """Lines for the log, for example about files that are not used."""
        return []

    def __getitem__(self, key: Key) -> Union[tuple[torch.Tensor, Any], UserError]:
        """Return a UserError instead of raising it: torch adds a traceback to an error raised in a worker process."""
        try:
            return self.read(*key)
        except UserError as error:
            return error


class TrainingKeys:
    """The keys of one process's training batches in `epoch`.

    All processes divide the same shuffled list: one step of all processes uses the same images as one step of a single
    process with the same total batch size. An incomplete last batch is dropped, because batch norm and the averaged
    gradients need batches of equal size."""

    def __init__(self, images: int, batch: int, context: DistributedContext) -> None:
        self.images, self.batch, self.context = images, batch, context
        self.epoch = 0

    def __len__(self) -> int:
        return self.images // (self.batch * self.context.processes)

    def __iter__(self) -> Iterator[list[Key]]:
        shuffled = np.random.default_rng((SEED, self.epoch)).permutation(self.images).tolist()
        rank, processes = self.context.rank, self.context.processes
        total = self.batch * processes
        for start in range(0, len(self) * total, total):
            yield [(self.epoch, index) for index in shuffled[start + rank : start + total : processes]]


class ValidationKeys:
    """The keys of one process's validation batches. All processes together read each image exactly once."""

    epoch = 0

    def __init__(self, images: int, batch: int, context: DistributedContext) -> None:
        self.indices, self.batch = range(context.rank, images, context.processes), batch

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.indices), self.batch):
            yield [(self.epoch, index) for index in self.indices[start : start + self.batch]]


def collate(samples: list[Any]) -> Any:
    """Combine the samples into one batch, or return the first error among them."""
    return next((sample for sample in samples if isinstance(sample, UserError)), None) or default_collate(samples)


class Batches:
    """One process's batches, read by `workers` processes, which run for all epochs; with 0 workers, by this process."""

    def __init__(
        self, samples: Samples, keys: Union[TrainingKeys, ValidationKeys], workers: int, context: DistributedContext
    ) -> None:
        self.samples, self.keys = samples, keys
        if workers:
            check_shared_memory(workers)
        self.loader = DataLoader(
            samples,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=context.device.type != "cpu",
            persistent_workers=workers > 0,
            worker_init_fn=start_worker,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yield the batches of an epoch: images and targets. Raises UserError for an image that cannot be read."""
        self.keys.epoch = number
        with ctrl_c_blocked():
            loaded = iter(self.loader)  # starts the workers
        for batch in loaded:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_batches(samples: Samples, batch: int, workers: int, context: DistributedContext) -> Batches:
    """One process's training batches. Raises UserError if the images do not fill one batch in each process."""
    keys = TrainingKeys(len(samples), batch, context)
    if not len(keys):
        expected = f"at least {batch * context.processes}, {batch} for each process"
        hint = "give more images, or a smaller batch size: --batch_size (with make: TRAIN in a copy of the config)"
        raise UserError("too few images", where=samples.source, expected=expected, found=len(samples), hint=hint)
    return Batches(samples, keys, workers, context)


def validation_batches(samples: Samples, batch: int, workers: int, context: DistributedContext) -> Batches:
    """One process's validation batches."""
    return Batches(samples, ValidationKeys(len(samples), batch, context), workers, context)


def start_worker(worker: int) -> None:
    """Prepare a worker process."""
    ignore_ctrl_c()
    exit_on_queue_error()


def exit_on_queue_error() -> None:
    """Make this worker process exit if it cannot send a batch, for example if shared memory is full. By default the
    queue prints the error and drops the batch, and the trainer waits for it forever.

    The thread that sends batches must not end the process itself: the main thread may hold a lock that is shared with
    the trainer, which would then wait for it forever. A signal lets the main thread release its locks."""

    def exit_main(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(1)

    def exit_process(error: Exception, batch: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, exit_main)
    queues.Queue._on_queue_feeder_error = staticmethod(exit_process)  # type: ignore[attr-defined]


def check_shared_memory(workers: int) -> None:
    """Raise UserError if the semaphores and pipes for `workers` processes cannot be created."""
    try:
        probes: list[queues.Queue[None]] = [multiprocessing.Queue() for _ in range(workers + 1)]
        for probe in probes:
            probe.close()
    except OSError as error:
        what = f"cannot start worker processes: {error.strerror}"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            hint = f"{OWN_COMMAND} fewer --workers, or allow more open files: ulimit -n 4096"
            raise UserError(what, hint=hint) from None
        raise UserError(what, where=SHARED_MEMORY, hint=f"{OWN_COMMAND} --workers 0, or {ENLARGE}") from None


def ignore_dead_workers() -> None:
    """Replace torch's SIGCHLD handler. It may raise its error again before it is replaced: then try again."""

    def ignore(number: int, frame: object) -> None:
        pass

    replaced = False
    while not replaced:
        with contextlib.suppress(RuntimeError):
            signal.signal(signal.SIGCHLD, ignore)
            replaced = True


@contextlib.contextmanager
def worker_deaths() -> Iterator[None]:
    """Convert the error that torch raises for a killed worker process into a UserError.

    torch raises it in its SIGCHLD handler, which may run after the broken connection to the worker was reported. So
    SIGCHLD is ignored after the first error."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: killed while it sent a batch
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        ignore_dead_workers()
        what = f"a worker process was killed: not enough memory, or not enough space in {SHARED_MEMORY}"
        found = f"{SHARED_MEMORY} of {shutil.disk_usage(SHARED_MEMORY).total / 1e6:.1f} MB"
        hint = f"{OWN_COMMAND} fewer --workers (0 needs no {SHARED_MEMORY}), or {ENLARGE}; either way the run resumes"
        raise UserError(what, found=found, hint=hint) from None
