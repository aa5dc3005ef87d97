"""The batches of one process: which images they hold, and the processes that read them ahead.

What is random about an image depends only on SEED, the epoch and the image's number in the list. So neither the number
of processes or workers nor a resumed run changes what is trained on.
"""

from __future__ import annotations

import abc
import contextlib
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from multiprocessing import queues
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from hrnet.cli import UserError
from hrnet.workers import SHARED_MEMORY
from train.distributed import DistributedContext

SEED = 0
LARGER = f"a larger {SHARED_MEMORY}: docker run --shm-size=8g"

Key = tuple[int, int]  # epoch, number of the image in the list


class Samples(Dataset, abc.ABC):
    """A fixed list of images with their targets."""

    source: Path  # the folder or file that lists them

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, epoch: int, number: int) -> tuple[torch.Tensor, Any]:
        """An image and its targets. The image: pixels uint8 [H, W, 3], or the net's input float32 [3, H, W]. Raises
        UserError for an unreadable file."""

    @abc.abstractmethod
    def sha256(self) -> str:
        """Hash of names and targets, in their order."""

    def notes(self) -> list[str]:
        """Lines for the log: what is left out."""
        return []

    def __getitem__(self, key: Key) -> Union[tuple[torch.Tensor, Any], UserError]:
        """A UserError is returned: raised in a worker process it would come out with a traceback."""
        try:
            return self.read(*key)
        except UserError as error:
            return error


class TrainingKeys:
    """The keys of one process's batches of `epoch`. All processes cut one shuffled list: together they see the batches
    of a single process that takes as many images at once. The rest of an epoch's list that fills no batch is left out,
    since batch norm and the mean of gradients need equal batches."""

    def __init__(self, images: int, batch: int, context: DistributedContext) -> None:
        self.images, self.batch, self.context = images, batch, context
        self.epoch = 0

    def __len__(self) -> int:
        return self.images // (self.batch * self.context.processes)

    def __iter__(self) -> Iterator[list[Key]]:
        shuffled = np.random.default_rng((SEED, self.epoch)).permutation(self.images).tolist()
        rank, processes = self.context.rank, self.context.processes
        together = self.batch * processes
        for start in range(0, len(self) * together, together):
            yield [(self.epoch, number) for number in shuffled[start + rank : start + together : processes]]


class ValidationKeys:
    """The keys of one process's batches to validate on: among all processes each image exactly once."""

    epoch = 0

    def __init__(self, images: int, batch: int, context: DistributedContext) -> None:
        self.numbers, self.batch = range(context.rank, images, context.processes), batch

    def __len__(self) -> int:
        return math.ceil(len(self.numbers) / self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.numbers), self.batch):
            yield [(self.epoch, number) for number in self.numbers[start : start + self.batch]]


def collate(samples: list[Any]) -> Any:
    """The samples as one batch, or the first error among them."""
    return next((sample for sample in samples if isinstance(sample, UserError)), None) or default_collate(samples)


class Batches:
    """One process's batches, read ahead by `workers` processes, which stay from epoch to epoch; 0: by this one."""

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
            worker_init_fn=lose_no_batch,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, epoch: int) -> Iterator[tuple[torch.Tensor, Any]]:
        """The batches of an epoch: images and targets. Raises UserError for an image that could not be read."""
        self.keys.epoch = epoch
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_batches(samples: Samples, batch: int, workers: int, context: DistributedContext) -> Batches:
    """One process's batches to train on. Raises UserError where the images do not fill one batch of each process."""
    keys = TrainingKeys(len(samples), batch, context)
    if not len(keys):
        expected = f"at least {batch * context.processes}, {batch} for each process"
        hint = "give a smaller --batch_size, or more images"
        raise UserError("too few images", where=samples.source, expected=expected, found=len(samples), hint=hint)
    return Batches(samples, keys, workers, context)


def validation_batches(samples: Samples, batch: int, workers: int, context: DistributedContext) -> Batches:
    """One process's batches to validate on."""
    return Batches(samples, ValidationKeys(len(samples), batch, context), workers, context)


def lose_no_batch(worker: int) -> None:
    """In a process that reads images: end it when it cannot send a batch, for lack of shared memory or descriptors. By
    default the queue prints the error and drops the batch, for which the trainer waits for ever."""

    def end(error: Exception, batch: object) -> None:
        os._exit(1)

    queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def check_shared_memory(workers: int) -> None:
    """Raise UserError where there is no room for the semaphores and pipes of so many processes."""
    try:
        probes: list[queues.Queue[None]] = [multiprocessing.Queue() for _ in range(workers + 1)]
        for probe in probes:
            probe.close()
    except OSError as error:
        what = f"cannot start processes that read images: {error.strerror}"
        raise UserError(what, where=SHARED_MEMORY, hint=f"give --workers 0, or {LARGER}") from None


def ignore_dead_workers() -> None:
    """Replace torch's handler of SIGCHLD, which may raise its error once more just before it is replaced."""

    def ignore(number: int, frame: object) -> None:
        pass

    replaced = False
    while not replaced:
        with contextlib.suppress(RuntimeError):
            signal.signal(signal.SIGCHLD, ignore)
            replaced = True


@contextlib.contextmanager
def worker_deaths() -> Iterator[None]:
    """Turn the error that torch raises anywhere in the trainer for a killed worker process into a UserError.

    torch raises it in its handler of SIGCHLD, which may run after a broken connection has already been reported: from
    the first error on, the signal is ignored."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: it was killed while it sent a batch
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        ignore_dead_workers()
        what = f"a process that reads images was killed: too little memory, or space in {SHARED_MEMORY}"
        found = f"{SHARED_MEMORY} of {shutil.disk_usage(SHARED_MEMORY).total / 1e6:.1f} MB"
        hint = f"give fewer --workers (0 uses no {SHARED_MEMORY}), or {LARGER}; the same command resumes"
        raise UserError(what, found=found, hint=hint) from None
