"""Stages that work at the same time: each in threads of its own, with a bound on how far it runs ahead of the next."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Threads that read and decode. A seventh of the time each waits for libvips' own thread or for the interpreter, so with
# one for each core an eighth fewer pictures are read.
READERS = 2 * (os.cpu_count() or 1)
# Files that may be read before they are taken: enough that a batch is ready while the one before is encoded.
FILES_AHEAD = 64 + READERS
# Batches that are matched, or decoded, before an encoder takes them.
BATCHES_AHEAD = 2


def ahead(threads: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], furthest: int) -> Iterator[R]:
    """Each item's result in order, computed in the threads while the caller uses those before it.

    furthest: how many results may wait. Dropping the iterator cancels what has not begun.
    """
    remaining = iter(items)
    waiting: deque[Future[R]] = deque(threads.submit(work, item) for item in islice(remaining, furthest))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(threads.submit(work, item) for item in islice(remaining, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def batches(items: Iterable[T], size: int | Callable[[], int]) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter. A function is asked anew for each."""
    remaining = iter(items)
    while batch := list(islice(remaining, size() if callable(size) else size)):
        yield batch


class StageClock:
    """How long each stage of a run was at work. The one that is at work all the time sets the pace."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def timed(self, stage: str, work: Callable[[T], R], threads: int = 1) -> Callable[[T], R]:
        """The same work, with its time noted. threads: that do it side by side; a second of all of them is one."""

        def working(item: T) -> R:
            started = time.perf_counter()
            try:
                return work(item)
            finally:
                self._add(stage, (time.perf_counter() - started) / threads)

        return working

    def shares(self) -> Mapping[str, float]:
        """The share of the time so far that each stage was at work, from 0 to 1, the slowest stage first."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        with self._lock:
            shares = {stage: min(seconds / elapsed, 1.0) for stage, seconds in self._seconds.items()}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
