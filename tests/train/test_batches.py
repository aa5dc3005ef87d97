"""train/batches.py: which images each process sees, and errors of its worker processes."""

from __future__ import annotations

import itertools
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError
from tests.support import ROOT
from tests.support.training_sets import set_up
from tests.train.calls import make_task
from train import batches
from train.distributed import DistributedContext


def context(rank: int = 0, processes: int = 1) -> DistributedContext:
    return DistributedContext(rank, processes, torch.device("cpu"))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_several_processes_divide_the_batches_of_one_process(
    images: int, batch: int, processes: int, epoch: int
) -> None:
    each = [batches.TrainingKeys(images, batch, context(rank, processes)) for rank in range(processes)]
    one = batches.TrainingKeys(images, batch * processes, context())
    for keys in (*each, one):
        keys.epoch = epoch
    steps = [list(itertools.chain(*parts)) for parts in zip(*each)]
    assert [sorted(step) for step in steps] == [sorted(step) for step in one]
    assert all(len(part) == batch for keys in each for part in keys)
    flat = list(itertools.chain(*steps))
    assert len(flat) == len(set(flat)) == images // (batch * processes) * batch * processes
    assert {number for number, _ in flat} <= {epoch}


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9))
def test_each_image_is_validated_once(images: int, batch: int, processes: int) -> None:
    keys = [batches.ValidationKeys(images, batch, context(rank, processes)) for rank in range(processes)]
    seen = [number for each in keys for part in each for _, number in part]
    assert sorted(seen) == list(range(images))
    assert all(len(each) == len(list(each)) for each in keys)


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_epochs_differ_and_can_be_repeated(task: str, tmp_path: Path) -> None:
    """Also by workers, and by two processes with half as many images each."""
    folder = set_up(task, tmp_path)
    made = make_task(task, folder / "small.yaml")
    samples, size = made.samples(folder / "data"), made.batch()
    single = batches.training_batches(samples, size, 0, context())
    first, second, again = ([images for images, _ in single.epoch(epoch)] for epoch in (0, 1, 0))
    assert len(first) == len(samples) // size
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, second))
    parts = [list(batches.training_batches(samples, size // 2, 1, context(rank, 2)).epoch(0)) for rank in range(2)]
    for step, (images, targets) in enumerate(single.epoch(0)):
        halves = [part[step] for part in parts]
        assert torch.equal(torch.stack([half[0] for half in halves], 1).flatten(0, 1), images)
        for mine, (one, other) in zip(tensors(targets), zip(*(tensors(half[1]) for half in halves))):
            assert torch.equal(torch.stack([one, other], 1).flatten(0, 1), mine)


def tensors(targets: object) -> list[torch.Tensor]:
    """The tensors of a batch's targets: the labels, or those of each output of the pose net."""
    return [targets] if isinstance(targets, torch.Tensor) else [part for output in targets for part in output]


def test_an_error_of_a_worker_is_raised_with_its_parts() -> None:
    error = UserError("not a readable image", where="a.JPEG", hint="fix it")
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    assert batches.collate([(torch.zeros(1), 0), error]) is error


def test_workers_that_get_ctrl_c_while_they_start_print_nothing() -> None:
    """Each new worker gets a SIGINT, as from a terminal, before it can ignore this signal. The script's main process
    gets a SIGINT later."""
    script = """if 1:
        import multiprocessing.util, os, signal, torch
        from train import batches
        from train.distributed import DistributedContext

        class Numbers(batches.Samples):
            source = None
            __len__ = lambda self: 4
            read = lambda self, epoch, index: (torch.tensor(index), epoch)
            sha256 = lambda self: ""

        made = batches.validation_batches(Numbers(), 2, 2, DistributedContext(0, 1, torch.device("cpu")))
        interrupt = lambda _: os.getpid() != parent and os.kill(os.getpid(), signal.SIGINT)
        parent = os.getpid()
        multiprocessing.util.register_after_fork(interrupt, interrupt)
        print([images.tolist() for images, _ in made.epoch(0)])
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores SIGINT
        os.kill(parent, signal.SIGINT)
    """
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[[0, 1], [2, 3]]\n" and done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.count("Traceback") == 1, "only the traceback of the main process, which sends SIGINT to itself"
