"""The batcher with fake runtimes that a test controls: which rows are computed together, padding, errors, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Callable, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError, WorkFailed
from hrnet.io.compiled import TensorInfo
from infer.runtimes.base import Runtime
from serve.batches import Batcher, Prepared, rows_of_batch
from tests.serve.twice import Twice


def row(value: float) -> np.ndarray:
    return np.full(2, value, np.float32)


def request(*values: float) -> Callable[[], Prepared]:
    return lambda: Prepared([row(value) for value in values], values)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in time")


def run(runtimes: Sequence[Runtime], work: Callable[[Batcher], Awaitable[None]], **options: Any) -> Batcher:
    batcher = Batcher(runtimes, **options)

    async def main() -> None:
        batcher.start()
        try:
            await work(batcher)
        finally:
            await asyncio.to_thread(batcher.stop)

    asyncio.run(main())
    assert not any(thread.is_alive() for thread in (*batcher.preparing, *batcher.computing))
    return batcher


def test_rows_that_were_queued_while_the_device_computed_are_one_batch() -> None:
    """The first request is computed alone; the five that arrive during its computation are padded to the next size."""
    one, eight, observed = Twice(1), Twice(8), []

    async def work(batcher: Batcher) -> None:
        one.gate.clear()
        first = batcher.submit(request(1))
        await until(lambda: len(one.batches) == 1)
        others = [batcher.submit(request(float(value))) for value in range(2, 7)]
        await until(lambda: len(batcher.waiting) == 5)
        one.gate.set()
        for future, value in zip([first, *others], range(1, 7)):
            context, (result,) = await future
            assert context == (value,) and result.outputs[0].tolist() == [[2.0 * value] * 2]

    run([one, eight], work, observe=lambda rows, waited: observed.append((rows, len(waited))))
    assert observed == [(1, 1), (5, 5)]
    (batch,) = eight.batches
    assert sorted(batch[:5, 0].tolist()) == [2, 3, 4, 5, 6] and set(batch[5:, 0].tolist()) == {batch[0, 0]}


def test_rows_are_not_padded_if_that_is_slower() -> None:
    """The time grows with the batch size, as on a CPU: five rows are computed as 4 and 1, in order."""
    one, four, eight, observed = Twice(1), Twice(4), Twice(8), []

    async def work(batcher: Batcher) -> None:
        batcher.seconds = {1: 1.0, 4: 4.0, 8: 8.0}
        one.gate.clear()
        first = batcher.submit(request(1))
        await until(lambda: len(one.batches) == 1)
        others = [batcher.submit(request(2, 3, 4)), batcher.submit(request(5, 6))]
        await until(lambda: len(batcher.waiting) == 5)
        one.gate.set()
        for future in (first, *others):
            context, results = await future
            assert [result.outputs[0][0, 0] for result in results] == [2 * value for value in context]

    run([one, four, eight], work, observe=lambda rows, waited: observed.append(rows))
    assert observed == [1, 4, 1] and not eight.batches


@given(st.dictionaries(st.sampled_from([1, 2, 4, 8, 16, 32]), st.floats(1e-6, 1e3), min_size=1), st.integers(1, 32))
def test_the_next_batch_has_nearly_the_highest_rate(seconds: dict[int, float], waiting: int) -> None:
    waiting = min(waiting, max(seconds))
    rows = rows_of_batch(waiting, seconds)

    def rate(count: int) -> float:
        return count / seconds[min(size for size in seconds if size >= count)]

    possible = [count for count in (*seconds, waiting) if count <= waiting]
    assert rows in possible and rate(rows) >= 0.95 * max(map(rate, possible))
    assert all(rate(count) < 0.95 * max(map(rate, possible)) for count in possible if count > rows)


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({1: 1.0, 8: 8.0, 16: 16.0}, 8),  # a CPU
        ({1: 1.0, 8: 1.1, 16: 1.2}, 9),  # an NPU: padded to 16
        ({1: 1.0, 8: 7.0, 16: 9.0}, 8),
        ({1: 1.0, 8: 8.0, 16: 9.0}, 9),
        ({16: 1.0}, 9),  # no smaller size
        ({1: 1.00, 8: 8.1}, 8),  # nearly the same: the larger batch
    ],
)
def test_nine_rows(seconds: dict[int, float], rows: int) -> None:
    assert rows_of_batch(min(9, max(seconds)), seconds) == rows


def test_the_time_of_each_size_is_measured_at_the_start() -> None:
    batcher = Batcher([Twice(1), Twice(4)])
    batcher.warm_up()
    assert all(0 < batcher.seconds[size] < 1.0 for size in (1, 4))


def test_a_request_with_more_rows_than_a_batch() -> None:
    two = Twice(2)

    async def work(batcher: Batcher) -> None:
        _, results = await batcher.submit(request(1, 2, 3, 4, 5))
        assert [result.outputs[0][0, 0] for result in results] == [2, 4, 6, 8, 10]

    run([two], work)
    assert [len(batch) for batch in two.batches] == [2, 2, 2]


def test_cancelled_requests_are_not_computed() -> None:
    one = Twice(1)

    async def work(batcher: Batcher) -> None:
        one.gate.clear()
        first = batcher.submit(request(1))
        await until(lambda: len(one.batches) == 1)
        second, third = batcher.submit(request(2)), batcher.submit(request(3))
        await until(lambda: len(batcher.waiting) == 2)
        second.cancel()
        one.gate.set()
        await first
        await third

    run([one], work)
    assert [batch[0, 0] for batch in one.batches] == [1, 3]


def test_an_error_affects_only_its_batch() -> None:
    one = Twice(1)

    def broken() -> Prepared:
        raise UserError("a bad image")

    async def work(batcher: Batcher) -> None:
        one.error = True
        with pytest.raises(WorkFailed, match="device lost"):
            await batcher.submit(request(1))
        assert batcher.failed is not None
        with pytest.raises(UserError, match="bad image"):
            await batcher.submit(broken)
        one.error = False
        await batcher.submit(request(2))
        assert batcher.failed is None

    run([one], work)


def test_queued_rows_are_computed_before_the_end() -> None:
    four, futures = Twice(4, requests=2), []

    async def work(batcher: Batcher) -> None:
        futures.extend(batcher.submit(request(float(value), -float(value))) for value in range(50))

    async def main() -> list[Any]:
        batcher = Batcher([four])
        batcher.start()
        await work(batcher)
        await asyncio.to_thread(batcher.stop)
        return await asyncio.gather(*futures)

    found = asyncio.run(main())
    assert [results[1].outputs[0][0, 0] for _, results in found] == [-2.0 * value for value in range(50)]


def test_the_best_classes_are_ranked_for_each_batch() -> None:
    two, seen = Twice(2), []

    def rank(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(logits))
        return logits.argmax(axis=1)[:, None], logits.max(axis=1)[:, None]

    async def work(batcher: Batcher) -> None:
        _, (result,) = await batcher.submit(request(3))
        best: Optional[tuple[np.ndarray, np.ndarray]] = result.best
        assert best is not None and best[1].tolist() == [6.0]

    run([two], work, rank=rank)
    assert seen == [1], "the padding is not ranked"


def test_the_warm_up_checks_the_outputs_of_each_batch_size() -> None:
    wrong = Twice(2)
    wrong.outputs = [TensorInfo("twice", "float32", [2, 3])]
    with pytest.raises(UserError, match="twice"):
        Batcher([Twice(1), wrong]).warm_up()
