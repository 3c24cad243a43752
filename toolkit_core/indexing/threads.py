"""Work ahead in threads, with a bound on how far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Results that may wait: enough that a batch is ready while the one before is encoded.
FURTHEST_AHEAD = 64


def ahead(threads: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Each item's result in order, computed in the threads while the caller uses those before it.

    Dropping the iterator cancels what has not begun.
    """
    remaining = iter(items)
    waiting: deque[Future[R]] = deque(threads.submit(work, item) for item in islice(remaining, FURTHEST_AHEAD))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(threads.submit(work, item) for item in islice(remaining, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
