"""Work that goes on ahead of who needs it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolkit_core.indexing.stages import StageClock, ahead, batches


def test_results_come_in_order_and_only_so_many_ahead() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        return item * item

    with ThreadPoolExecutor(3) as threads:
        results = ahead(threads, work, range(100), 5)
        assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
        results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert max(started) <= 10 + 5


def test_error_of_the_work_reaches_the_caller_and_ends_it() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise KeyError(item)
        return item

    with ThreadPoolExecutor(2) as threads:
        results = ahead(threads, work, range(10), 4)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError):
            next(results)
        assert list(results) == []


def test_stages_work_at_the_same_time() -> None:
    """Each of two stages waits for the other to be at its own item: one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)

    def first(item: int) -> int:
        if item > 0:
            both.wait()
        return item

    def second(item: int) -> int:
        if item < 5:
            both.wait()
        return item

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        assert list(ahead(two, second, ahead(one, first, range(6), 2), 1)) == list(range(6))


def test_batches_have_everything_in_order() -> None:
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []


def test_clock_puts_the_stage_that_was_longest_at_work_first() -> None:
    clock = StageClock()
    released = threading.Event()

    def wait(seconds: float) -> None:
        released.wait(seconds)

    clock.timed("short", wait)(0.01)
    clock.timed("long", wait)(0.1)
    clock.timed("shared", wait, threads=100)(0.1)
    shares = clock.shares()
    assert list(shares) == ["long", "short", "shared"]
    assert all(0 < share <= 1 for share in shares.values())
